"""The server as a process: what it refuses to serve, how it stops, who it waits for."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from slipway.package import MANIFEST, Golden, Package, read_golden, write_golden

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.server", "--host=127.0.0.1", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, env=environment, check=False)


FORKS = """
import json, os, sys, traceback
sys.argv = ["server"]  # kserve reads it when it is imported
import serving.model, serving.server
for line in sys.stdin:
    order = json.loads(line)
    if not (child := os.fork()):
        code = 70
        try:
            os.dup2(os.open(order["stderr"], os.O_WRONLY | os.O_CREAT), 2)
            code = serving.server.main(order["arguments"])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """As run, in forks of one process that has imported everything: nine starts were half of this module's time."""
    folder = tmp_path_factory.mktemp("forked")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=ROOT,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:

        def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
            stderr = folder / "stderr"
            stderr.unlink(missing_ok=True)
            order = {"arguments": ["--host=127.0.0.1", *arguments], "stderr": str(stderr)}
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            return subprocess.CompletedProcess(arguments, int(process.stdout.readline()), stderr=stderr.read_text())

        yield ask
        process.stdin.close()


@pytest.fixture
def copied(movies_package, tmp_path):
    return Path(shutil.copytree(movies_package.package, tmp_path / "package"))


def flip_a_byte(folder: Path) -> None:
    path = folder / "ranker.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_a_hash(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["counts.npz"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(manifest))


def reseal(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    package = Package.seal(
        folder,
        **{
            "workload": manifest["workload"],
            "created": manifest["created"],
            "git_commit": manifest["git_commit"],
            "pipeline_run": "tests",
            "data": manifest["data"],
            "signature": manifest["signature"],
            "metrics": {},
            **changes,
        },
    )
    assert Package.open(folder).version == package.version


def change_an_answer(folder: Path) -> None:
    pairs = list(read_golden(Package.open(folder)))
    items = pairs[0].outputs["item_id"]
    first = Golden(pairs[0].inputs, {**pairs[0].outputs, "item_id": np.roll(items, 1, axis=1)})
    write_golden(folder, [first, *pairs[1:]])
    reseal(folder)


def change_the_signature(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["signature"]["inputs"][0]["datatype"] = "FP32"
    reseal(folder, signature=manifest["signature"])


def drop_the_model(folder: Path) -> None:
    (folder / "ranker.onnx").write_bytes(b"not onnx")
    reseal(folder)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip_a_byte, "ranker.onnx was changed"),
        (change_a_hash, "counts.npz was changed"),
        (lambda folder: (folder / "users.npy").unlink(), "users.npy is missing"),
        (lambda folder: (folder / "extra").write_text(""), "extra is not listed"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "package.json is not valid"),
        (shutil.rmtree, "is no model package"),
        (change_an_answer, "answers golden request 1 with another 'item_id'"),
        (change_the_signature, "another signature"),
        (drop_the_model, "ranker.onnx cannot be loaded"),
    ],
    ids=["flipped byte", "hash", "missing", "extra", "manifest", "folder", "golden", "signature", "not ONNX"],
)
def test_a_damaged_package_is_refused(copied, forked, damage, says):
    damage(copied)
    start = run if damage is flip_a_byte else forked
    ended = start(f"--model_dir={copied}", "--http_port=0")
    assert ended.returncode == 1
    assert says in ended.stderr
    assert "→" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_one_clear_line(movies_package):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for which in ("--http_port", "--grpc_port"):
            ended = run(f"--model_dir={movies_package.package}", "--http_port=0", f"{which}={port}")
            assert ended.returncode == 2
            assert f"port {port}" in ended.stderr
            assert "Traceback" not in ended.stderr


def test_bad_arguments_exit_2():
    assert run().returncode == 2
    assert run("--model_dir=x", "--http_port=99999").returncode == 2
    assert run("--model_dir=x", "--host=256.1.1.1").returncode == 2


def test_sigterm_answers_what_was_sent_before(start_server, movies_package):
    server = start_server(movies_package.package)
    users = movies_package.users[:64]
    body = json.dumps(
        {
            "inputs": [
                {"name": "user_id", "shape": [64], "datatype": "INT64", "data": users},
                {"name": "k", "shape": [1], "datatype": "INT64", "data": [100]},
            ]
        }
    ).encode()
    connections = [server.connect() for _ in range(40)]
    for connection in connections:
        connection.request("POST", "/v2/models/movies/infer", body=body)
    replies = []

    def read(connection):
        reply = connection.getresponse()
        replies.append((reply.status, len(json.loads(reply.read())["outputs"])))

    # At once: some are not even accepted yet, others are not read, most wait for a thread.
    server.process.send_signal(signal.SIGTERM)
    readers = [threading.Thread(target=read, args=(connection,)) for connection in connections]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(240)
    assert server.process.wait(240) == 0
    assert replies == [(200, 4)] * 40
    assert "stopped" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    with pytest.raises(OSError, match="refused"):
        server.connect()


def test_ctrl_c_is_a_clean_stop(start_server, movies_package):
    server = start_server(movies_package.package, "--grpc_port=0")
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(240) == 0
    assert "Traceback" not in server.log.read_text()


def test_a_slow_client_holds_up_nobody(movies_server):
    begun = []
    for _ in range(20):
        slow = socket.create_connection(("127.0.0.1", movies_server.port))
        slow.sendall(b"POST /v2/models/movies/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        begun.append(slow)
    started = time.monotonic()
    body = {"instances": [{"user_id": 1}]}
    for _ in range(20):
        assert movies_server.ask(body, "/v1/models/movies:predict").status == 200
    assert time.monotonic() - started < 20  # who waited for one of them would have waited for ever
    for slow in begun:
        slow.close()


def test_a_client_that_goes_away_leaves_no_trace(movies_server):
    gone = socket.create_connection(("127.0.0.1", movies_server.port))
    gone.sendall(b"POST /v2/models/movies/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    gone.close()
    assert movies_server.ask(path="/v2/models/movies/ready", method="GET").status == 200
    time.sleep(0.1)
    assert "Traceback" not in movies_server.log.read_text()


def test_listens_where_it_is_told_only(movies_server):
    import psutil

    listening = {c.laddr for c in psutil.Process(movies_server.process.pid).connections() if c.status == "LISTEN"}
    assert {(address.ip.removeprefix("::ffff:"), address.port) for address in listening} == {
        ("127.0.0.1", movies_server.port),
        ("127.0.0.1", movies_server.grpc_port),
    }


def test_the_log_is_short(movies_server):
    movies_server.ask({"instances": [{"user_id": -1}]}, "/v1/models/movies:predict")
    lines = movies_server.log.read_text().splitlines()
    assert len(lines) == 2
    assert "there are no online features of fixture" in lines[0]
    assert "serving movies, package" in lines[1]


def test_no_training_library_is_loaded(movies_package):
    code = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.argv = ["x"]
from serving.model import ServedModel
import serving.process
ServedModel("movies", Path({str(movies_package.package)!r}), "r", ThreadPoolExecutor(1)).load()
print([name for name in ("torch", "ray", "mlflow", "kfp") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
