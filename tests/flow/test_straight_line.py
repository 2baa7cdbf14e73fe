"""One job, from the queue to the saved documents."""

import secrets
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.messages_api import Call, Explore, Script, Turn, say, when
from tests.flow.stage import SHORT_LEASE, on_stage
from tests.repositories import git


async def test_a_job_becomes_documents(tmp_path: Path) -> None:
    """The happy path: what the repository holds stands in the document, and the row says it all."""
    name, secret = f"module_{secrets.token_hex(4)}", secrets.token_hex(16)
    async with on_stage(tmp_path, Explore()) as stage:
        source = f'"""{secret}"""\n\n\ndef {name}_entry() -> None:\n    """Begin."""\n'
        commit = stage.repository.commit({f"src/{name}.py": source})
        await stage.worker(WORKER_ID="worker-1")
        job_id = await stage.enqueue("describe it", priority=2, model="claude-sonnet-4-5")
        job = await stage.ended(job_id)
        (document,) = await stage.queue.documents(job_id)
        assert {request.model for request in stage.api.asked()} == {"claude-sonnet-4-5"}

    assert job["status"] == "completed", job
    assert job["resolvedCommit"] == commit
    assert job["result"]["success"] is True
    assert (job["docsCount"], job["attempt"], job["attempts"]) == (1, 1, 1)
    assert job["workerId"] == "worker-1"
    assert job["usage"]["turns"] >= 2
    assert job["usage"]["costUsd"] > 0
    assert "error" not in job
    for expected in (f"src/{name}.py", secret, f"{name}_entry"):
        assert expected in document["content"]
    assert document["title"] == document["content"].splitlines()[0].removeprefix("# ")
    assert document["kind"] == "chapter"


async def test_progress_is_shown_while_it_runs(tmp_path: Path) -> None:
    """In words, with steps that only climb."""
    turns = (
        Turn(calls=(Call(tool="Glob", input={"pattern": "**/*"}),), delay=2.5),
        Turn(calls=(Call(tool="Grep", input={"pattern": "print"}),), delay=2.5),
        Turn(text="# Done\n", delay=2.5),
    )
    async with on_stage(tmp_path, Script(turns=turns)) as stage:
        await stage.worker()
        job_id = await stage.enqueue()
        seen: list[tuple[str, int, str]] = []
        while not seen or seen[-1][0] != "completed":
            row = await stage.queue.job(job_id)
            look = (row["status"], int(row.get("currentStep", 0)), row.get("progress", ""))
            if not seen or look != seen[-1]:
                seen.append(look)
    statuses = list(dict.fromkeys(status for status, _, _ in seen))
    order = ["pending", "claimed", "cloning", "analyzing", "gathering", "completed"]
    assert statuses == [status for status in order if status in statuses]
    assert {"cloning", "analyzing"} <= set(statuses)
    steps = [step for _, step, _ in seen]
    assert steps == sorted(steps)
    words = {words for _, _, words in seen}
    assert "listing **/*" in words
    assert "searching" in words


async def test_a_large_document_arrives_whole(tmp_path: Path) -> None:
    """Over 64 KiB it goes through file storage, and its row shows the beginning."""
    text = "# Large\n\n" + "".join(f"line {n} äöü 🐙\n" for n in range(8000))
    async with on_stage(tmp_path, say(text)) as stage:
        await stage.worker()
        job_id = await stage.enqueue()
        assert (await stage.ended(job_id))["status"] == "completed"
        (document,) = await stage.queue.documents(job_id)
        assert document["size"] == len(text.encode())
        assert document["content"].startswith("# Large\n\nline 0 ")
        assert len(document["content"].encode()) < 17_000
        async with aiohttp.ClientSession() as session, session.get(document["url"]) as answer:
            assert (await answer.read()).decode() == text
        assert await stage.rows("stagedDocs") == []


async def test_a_file_in_the_repository_is_never_a_result(tmp_path: Path) -> None:
    """The Node worker published what a repository had put into its output directory."""
    async with on_stage(tmp_path, say("# From the model\n")) as stage:
        planted = {
            ".claude-tutorial-output/chapters/chapter_1.md": "# Planted\n",
            ".claude-tutorial-output/step1_abstractions.yaml": "planted: true\n",
            "result.md": "# Planted\n",
        }
        stage.repository.commit(planted, links={"chapter.md": "/etc/passwd"})
        await stage.worker()
        job_id = await stage.enqueue()
        await stage.ended(job_id)
        documents = await stage.queue.documents(job_id)
    assert [document["content"].strip() for document in documents] == ["# From the model"]


async def test_branch_commit_and_subdirectory_are_heeded(tmp_path: Path) -> None:
    """What is analysed is what was asked for."""
    async with on_stage(tmp_path, Explore()) as stage:
        git(stage.repository.path, "checkout", "--quiet", "-b", "main;touch${IFS}x")
        commit = stage.repository.commit({"inner/only_here.py": "x = 1\n", "outer.py": "y = 2\n"})
        stage.repository.commit({"later.py": "z = 3\n"})
        git(stage.repository.path, "checkout", "--quiet", "main")
        await stage.worker()
        branch = await stage.enqueue(ref="main;touch${IFS}x")
        inner = await stage.enqueue(commit=commit, subdirectory="inner")
        texts = {}
        for job_id in (branch, inner):
            job = await stage.ended(job_id)
            assert job["status"] == "completed", job
            texts[job_id] = (await stage.queue.documents(job_id))[0]["content"]
        assert (await stage.queue.job(inner))["resolvedCommit"] == commit
    assert "later.py" in texts[branch]
    assert "only_here.py" in texts[inner]
    assert "outer.py" not in texts[inner]
    assert not list(tmp_path.rglob("x"))


async def test_two_workers_and_one_job_make_one_run(tmp_path: Path) -> None:
    """Both are woken; one gets it."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        await stage.worker()
        await stage.worker()
        job_id = await stage.enqueue()
        assert (await stage.ended(job_id))["status"] == "completed"
        assert stage.runs() == 1


@pytest.mark.timeout(180)
async def test_twenty_jobs_over_four_workers_with_two_slots_run_once_each(tmp_path: Path) -> None:
    """None twice, none left, and more than one worker at work."""
    rules = [when(f"job {n:02d}", say(f"# Document {n:02d}\n")) for n in range(20)]
    async with on_stage(tmp_path, rules) as stage:
        for _ in range(4):
            await stage.worker(MAX_CONCURRENT_JOBS="2")
        ids = [await stage.enqueue(f"job {n:02d}") for n in range(20)]
        jobs = [await stage.ended(job_id, limit=120) for job_id in ids]
        assert {job["status"] for job in jobs} == {"completed"}
        assert [stage.runs(f"job {n:02d}") for n in range(20)] == [1] * 20
        for n, job_id in enumerate(ids):
            (document,) = await stage.queue.documents(job_id)
            assert document["title"] == f"Document {n:02d}"
        assert len({job["workerId"] for job in jobs}) > 1


async def test_slots_work_side_by_side(tmp_path: Path) -> None:
    """Two jobs of some seconds are in flight at once."""
    turns = (Turn(text="# Done\n", delay=4),)
    async with on_stage(tmp_path, Script(turns=turns)) as stage:
        await stage.worker(MAX_CONCURRENT_JOBS="2", **SHORT_LEASE)
        ids = [await stage.enqueue() for _ in range(2)]
        for job_id in ids:
            await stage.job_in(job_id, "analyzing")
        assert [(await stage.queue.job(job_id))["status"] for job_id in ids] == ["analyzing"] * 2
        for job_id in ids:
            await stage.ended(job_id)
