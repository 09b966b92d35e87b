"""Every operation through unmodified boto3 clients, as one story from the first workload identity to the last delete."""

from harness.main_path import call_every_operation


def test_boto3_calls_every_operation(server, normal_vendor, app, fresh):
    call_every_operation(server, normal_vendor, app, fresh)
