"""Credentials of the metadata store, as given and as its pods read them."""

import dataclasses as dc
import operator
from collections.abc import Mapping

import pulumi

from components import _databases as databases
from components import _object_store as objects
from components._databases import InCluster
from components._metadata import MetadataStoreArgs

Credentials = Mapping[str, pulumi.Input[str]]


@dc.dataclass(frozen=True, kw_only=True)
class MetadataCredentials:
    """given: by name. slots: which of its accounts of the object store each owner of a bucket uses; else the first."""

    args: MetadataStoreArgs
    given: Credentials
    slots: Mapping[str, str]

    def keys(self, owner: str) -> pulumi.Output[tuple[str, str]]:
        """Access key and secret key that the pods of an owner of a bucket are handed."""
        account = objects.account(owner, self.slots.get(owner, objects.SLOTS[0]))
        return self._keys(f"object-store-{account}", account)

    def secrets(self) -> dict[str, dict[str, pulumi.Input[str]]]:
        """What the Secrets of the metadata namespace have, by their names."""
        owners, given = tuple(self.args.owners), self.given
        backup = self._keys("object-store-backup", objects.BACKUP_ACCOUNT)
        keys = {owner: self.keys(owner) for owner in owners}
        data: dict[str, dict[str, pulumi.Input[str]]] = {
            "postgres": {"password": given["postgres"]},
            "object-store-backup": {
                "AWS_ACCESS_KEY_ID": backup.apply(operator.itemgetter(0)),
                "AWS_SECRET_ACCESS_KEY": backup.apply(operator.itemgetter(1)),
            },
            "object-store-teams": {
                f"{owner}.{part}": pair.apply(operator.itemgetter(index))
                for owner, pair in keys.items()
                for index, part in enumerate(("access", "secret"))
            },
            "mlflow": {"admin": given["mlflow-admin"], "session": given["mlflow-session"]},
            "mlflow-teams": {
                "passwords.json": pulumi.Output.json_dumps({owner: given[f"mlflow-{owner}"] for owner in owners})
            },
        }
        if isinstance(self.args.object_store, InCluster):
            data["object-store"] = {"password": given["object-store"]}
            data["object-store-accounts"] = {"users.json": self._accounts()}
        if self.args.mysql:
            password = pulumi.Output.from_input(given["mysql"])
            data["mysql"] = {"password": password, "init.sql": password.apply(databases.mysql_init)}
        return data

    def _accounts(self) -> pulumi.Output[str]:
        """Every account of the object store in the cluster, with its secret."""
        named = {
            objects.account(owner, slot): f"object-store-{owner}-{slot}"
            for owner in self.args.owners
            for slot in objects.SLOTS
        }
        secrets = pulumi.Output.all(
            **{account: self.given[credential] for account, credential in named.items()},
            **{objects.BACKUP_ACCOUNT: self.given["object-store-backup"]},
        )
        return secrets.apply(objects.accounts)

    def _keys(self, credential: str, account: str) -> pulumi.Output[tuple[str, str]]:
        """Access key and secret key of an account of the object store."""
        given = pulumi.Output.from_input(self.given[credential])
        if isinstance(self.args.object_store, InCluster):
            return given.apply(lambda secret: (account, secret))
        return given.apply(lambda both: external_keys(credential, both))


def external_keys(credential: str, given: str) -> tuple[str, str]:
    """Access key and secret key, of a credential that was given for an external object store.

    Raises pulumi.RunError, which Pulumi prints as one line, for what is not both.
    """
    access, colon, secret = given.partition(":")
    if not (access and colon and secret):
        raise pulumi.RunError(
            f"credential {credential!r}: accepted: ACCESS_KEY:SECRET_KEY, as the object store gave them"
        )
    return access, secret
