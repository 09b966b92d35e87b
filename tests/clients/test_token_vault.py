"""The token vault of embedded mode: its key is the master key, and says so."""

import pytest

KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"


def test_the_vault_has_a_key_of_its_own(caller):
    vault = caller.ok("GetTokenVault", tokenVaultId="default")
    assert vault["tokenVaultId"] == "default"
    assert vault["kmsConfiguration"] == {"keyType": "ServiceManagedKey"}
    assert vault["lastModifiedDate"] > 1_700_000_000
    assert caller.ok("SetTokenVaultCMK", kmsConfiguration={"keyType": "ServiceManagedKey"}) == vault


def test_a_kms_key_is_refused_with_the_reason(caller):
    configuration = {"keyType": "CustomerManagedKey", "kmsKeyArn": KMS_KEY}
    answer = caller.call("SetTokenVaultCMK", kmsConfiguration=configuration)
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert "master key of its own" in answer.json["message"]


def test_nothing_is_reset_while_nothing_is_lost(caller):
    answer = caller.call("ResetTokenVaultKeyMaterial", tokenVaultId="default")
    assert (answer.status, answer.error) == (409, "ConflictException")
    assert "no key of the vault is lost" in answer.json["message"]
    answer = caller.call("ResetTokenVaultKeyMaterial")
    assert [wrong["name"] for wrong in answer.json["fieldList"]] == ["tokenVaultId"]


@pytest.mark.parametrize("operation", ["GetTokenVault", "SetTokenVaultCMK", "ResetTokenVaultKeyMaterial"])
def test_another_vault_is_not_there(caller, operation):
    members = {"kmsConfiguration": {"keyType": "ServiceManagedKey"}} if operation == "SetTokenVaultCMK" else {}
    answer = caller.call(operation, tokenVaultId="second", **members)
    assert (answer.status, answer.error) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        (None, "kmsConfiguration"),
        ({}, "kmsConfiguration.keyType"),
        ({"keyType": "Mine"}, "kmsConfiguration.keyType"),
        ({"keyType": "CustomerManagedKey"}, "kmsConfiguration.kmsKeyArn"),
        ({"keyType": "CustomerManagedKey", "kmsKeyArn": "alias/mine"}, "kmsConfiguration.kmsKeyArn"),
        ({"keyType": "ServiceManagedKey", "kmsKeyArn": KMS_KEY}, "kmsConfiguration.kmsKeyArn"),
    ],
)
def test_what_is_wrong_is_named(caller, configuration, field):
    members = {} if configuration is None else {"kmsConfiguration": configuration}
    answer = caller.call("SetTokenVaultCMK", **members)
    assert (answer.status, answer.error) == (400, "ValidationException"), answer
    assert [wrong["name"] for wrong in answer.json["fieldList"]] == [field]
