"""Children: ended within a bound, found again by pid and start time, never a stranger's process."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from serving.embedded.process import Child, reap, started

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


async def start(tmp_path: Path, code: str) -> Child:
    command = [sys.executable, "-c", code]
    records, log = tmp_path / "records", tmp_path / "log"
    return await Child.start(command, records=records, name="one", log=log, env=os.environ, cwd=tmp_path)


def test_stop_kills_what_ignores_sigterm(tmp_path: Path) -> None:
    async def scenario() -> tuple[int, float]:
        child = await start(tmp_path, STUBBORN)
        while "up" not in child.tail():
            await asyncio.sleep(0.02)
        before = asyncio.get_running_loop().time()
        await child.stop(grace=0.3)
        assert not list((tmp_path / "records").iterdir())
        return await child.wait() or 0, asyncio.get_running_loop().time() - before

    code, seconds = asyncio.run(scenario())
    assert code == -9
    assert 0.3 <= seconds < 30  # it would have gone on for 60


def test_the_log_keeps_the_last_words(tmp_path: Path) -> None:
    async def scenario() -> tuple[int, str]:
        child = await start(tmp_path, "import sys; print('a'); sys.exit('the reason')")
        return await child.wait(), child.tail()

    code, tail = asyncio.run(scenario())
    assert code == 1
    assert "the reason" in tail


def test_reap_ends_the_recorded_and_nobody_else(tmp_path: Path) -> None:
    mine, stubborn, other = (
        subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        for code in ("import time; time.sleep(60)", STUBBORN, "import time; time.sleep(60)")
    )
    assert stubborn.stdout
    assert stubborn.stdout.read(2) == b"up"
    try:
        for name, process in (("a", mine), ("d", stubborn)):
            (tmp_path / f"{name}.json").write_text(json.dumps({"pid": process.pid, "started": started(process.pid)}))
        # Its pid was reused: another process than the one that was recorded.
        (tmp_path / "b.json").write_text(json.dumps({"pid": other.pid, "started": 1.0}))
        (tmp_path / "c.json").write_text("{")
        assert sorted(reap(tmp_path, grace=0.5)) == sorted([mine.pid, stubborn.pid])
        assert (mine.wait(5), stubborn.wait(5)) == (-15, -9)
        assert other.poll() is None
        assert not list(tmp_path.iterdir())
    finally:
        for process in (mine, stubborn, other):
            process.kill()
            process.communicate()


def test_a_child_outlives_its_parent_and_is_adopted(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from serving.embedded.process import Child\n"
        "async def main():\n"
        "    folder = Path(sys.argv[1])\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "    child = await Child.start(command, records=folder, name='x', log=folder/'log',"
        " env=os.environ, cwd=folder, facts={'port': 1})\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False, timeout=60
    )
    record = tmp_path / "x.json"
    found = Child.adopt(record, tmp_path / "log")
    assert found
    child, facts = found
    assert (child.pid, facts, child.alive) == (int(done.stdout), {"port": 1}, True)

    async def ends() -> int | None:
        ended = asyncio.create_task(child.wait())
        await asyncio.sleep(0.05)
        assert not ended.done()
        await child.stop(5)
        return await ended

    assert asyncio.run(ends()) is None  # its exit code was its parent's to see
    assert not child.alive
    assert not record.exists()
    assert Child.adopt(record, tmp_path / "log") is None
