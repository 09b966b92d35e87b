"""The main job against the functions: the story of embedded mode, with the same unmodified clients."""

from harness.main_path import call_every_operation


def test_boto3_calls_every_operation(functions, vendor, app, fresh):
    call_every_operation(functions, vendor, app, fresh)
