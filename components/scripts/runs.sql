-- One JSON object: what MLflow's database (3.17) remembers, run by run and model version by model version.
SELECT json_build_object(
    'schema', (SELECT version_num FROM alembic_version),
    'newest_run_end', (SELECT max(end_time) FROM runs),
    'registered_models', (SELECT count(*) FROM registered_models),
    'runs', (
        SELECT coalesce(json_object_agg(run_uuid, concat_ws(' ',
            md5(runs::text), coalesce(m.n, 0), coalesce(p.n, 0), coalesce(t.n, 0))), '{}'::json)
        FROM runs
        LEFT JOIN (SELECT run_uuid, count(*) AS n FROM metrics GROUP BY run_uuid) AS m USING (run_uuid)
        LEFT JOIN (SELECT run_uuid, count(*) AS n FROM params GROUP BY run_uuid) AS p USING (run_uuid)
        LEFT JOIN (SELECT run_uuid, count(*) AS n FROM tags GROUP BY run_uuid) AS t USING (run_uuid)
    ),
    'model_versions', (
        SELECT coalesce(json_object_agg(name || '/' || version, md5(model_versions::text)), '{}'::json)
        FROM model_versions
    )
)
