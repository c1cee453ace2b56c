"""The real `gcloud database-migration`, pointed at a service on this machine; it asks for nothing else and tells nobody."""
import json
import os
import re
import shutil
import subprocess

import pytest

PROJECT, REGION = "my-project", "us-central1"

SETTINGS = {
    "CORE_PROJECT": PROJECT,
    "CORE_DISABLE_PROMPTS": "true",
    "CORE_DISABLE_USAGE_REPORTING": "true",
    "CORE_DISABLE_FILE_LOGGING": "true",
    "CORE_CHECK_GCE_METADATA": "false",
    "COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
    "AUTH_DISABLE_CREDENTIALS": "true",
}


class Said:
    """What a command came to."""

    def __init__(self, words, run):
        self.words, self.code, self.out, self.err = words, run.returncode, run.stdout, run.stderr

    def __repr__(self):
        return f"gcloud {' '.join(self.words)}: exit code {self.code}\n{self.out}\n{self.err}"


class Gcloud:
    def __init__(self, folder, port):
        program = shutil.which("gcloud")
        if program is None:
            pytest.skip("gcloud is not installed (package google-cloud-sdk of Google's own repository)")
        self.program = program
        env = {k: v for k, v in os.environ.items() if not k.startswith(("CLOUDSDK_", "GOOGLE_")) and not k.upper().endswith("_PROXY")}
        env.update({f"CLOUDSDK_{key}": value for key, value in SETTINGS.items()})
        env.update(CLOUDSDK_CONFIG=str(folder), CLOUDSDK_API_ENDPOINT_OVERRIDES_DATAMIGRATION=f"http://127.0.0.1:{port}/")
        self.env = env

    def run(self, *words, region=True):
        """words: behind `gcloud database-migration`."""
        all_words = ["database-migration", *words, *([f"--region={REGION}"] if region else [])]
        run = subprocess.run([self.program, *all_words], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                             timeout=120, check=False)
        return Said(all_words, run)

    def good(self, *words, **options):
        said = self.run(*words, **options)
        assert said.code == 0, said
        return said

    def json(self, *words, **options):
        """What it shows, as objects."""
        return json.loads(self.good(*words, "--format=json", **options).out)

    def rows(self, *words, **options):
        """The table that it shows without --format: a dictionary a row, by the header."""
        header, *lines = self.good(*words, **options).out.splitlines()
        starts = [each.start() for each in re.finditer(r"\S+", header)]
        ends = [*starts[1:], None]
        return [{header[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends)} for line in lines]

    def refused(self, *words, **options):
        """What it says of it."""
        said = self.run(*words, **options)
        assert said.code == 1 and "ERROR: (gcloud.database-migration." in said.err and "Traceback" not in said.err, said
        return said.err
