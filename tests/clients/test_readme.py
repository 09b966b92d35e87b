"""The README's lines of boto3, as they stand there, against a server."""

import re
import subprocess
import sys

from harness.places import REPOSITORY, plain_environment

(SNIPPET,) = re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def test_the_lines_of_boto3_do_what_they_say(server, tmp_path):
    environment = plain_environment(**server.env() | {"HOME": str(tmp_path)})
    done = subprocess.run(
        [sys.executable, "-c", SNIPPET], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    register, api_key, link = done.stdout.splitlines()
    assert register.startswith(f"register at GitHub: {server.url}/identities/oauth2/callback/")
    assert api_key == "my-weather-key"
    assert link.startswith(f"{server.url}/identities/oauth2/authorize?request_uri=")
