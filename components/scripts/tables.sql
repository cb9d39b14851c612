-- One JSON object: of every table its rows and a sum over their contents, whatever their order.
SELECT coalesce(json_object_agg(found.name, json_build_object(
    'rows', (xpath('//rows/text()', found.counted))[1]::text::bigint,
    'digest', (xpath('//digest/text()', found.counted))[1]::text
)), '{}'::json)
FROM (
    SELECT relname AS name, query_to_xml(format(
        'SELECT count(*) AS rows, coalesce(sum((''x'' || left(md5(one::text), 15))::bit(60)::bigint), 0) AS digest '
        'FROM %I.%I AS one', nspname, relname), false, true, '') AS counted
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'public' AND relkind = 'r'
) AS found
