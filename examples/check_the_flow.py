"""Check the setup: connect, submit, show the branch, wait for the GPU, report. Nothing is uploaded.

python examples/check_the_flow.py VIDEO AUDIO        (settings as for `wakestream submit`: .env, .license, …)
"""

import sys

from reactivex import Observable

from wakestream import Done, Granted, Job, JobEvent, Stages, is_outcome, of, pipeline, run_job, then
from wakestream.adapters.run_jobs import show_line


@pipeline
def until_ready(stages: Stages) -> Observable[JobEvent]:
    """Only the first two stages of a job."""
    return stages.submit().pipe(then(stages.online, lambda _: of(Done(stages.job.inputs["video"], 0))))


def show(job: Job, event: JobEvent) -> None:
    """Print a line for each event: the branch at the grant, the verdict at the end."""
    if isinstance(event, Granted):
        print(f"branch: {event.branch}, after {event.waited:.1f} s")
    if not isinstance(event, Done):
        show_line(job, event)
    if is_outcome(event):
        print("the flow works" if isinstance(event, Done) else "the flow is broken: see above")


if __name__ == "__main__":
    sys.exit(run_job(until_ready, about=__doc__, show=show))
