"""Tasks that wait for a person. The answers are given here, by the producer.

`unanswered` gives up: Graflow writes a checkpoint of the task's context to the
working directory and counts the task as done, with the error as its result.
"""

import threading
import time

from flow import context, finish, redis_group, run
from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.hitl.types import FeedbackResponse, FeedbackType

with workflow("feedback") as wf:

    @task(inject_context=True)
    def approval(ctx):
        return ctx.request_approval("Deploy?", timeout=20, channel_key="deploy", write_to_channel=True)

    @task(inject_context=True)
    def words(ctx):
        return ctx.request_text_input("Name?", timeout=20)

    @task(inject_context=True)
    def unanswered(ctx):
        return ctx.request_text_input("Anyone?", timeout=0.5)

    redis_group([approval, words, unanswered], "feedback")
    ctx = context(wf, "feedback")
    flow = threading.Thread(target=run, args=(ctx,))
    flow.start()

    answers = {
        "approval": {"response_type": FeedbackType.APPROVAL, "approved": True},
        "words": {"response_type": FeedbackType.TEXT, "text": "größer"},
    }
    deadline = time.monotonic() + 20
    while answers and time.monotonic() < deadline:
        for request in ctx.feedback_manager.list_pending_requests(ctx.session_id):
            if answer := answers.pop(request.task_id, None):
                response = FeedbackResponse(feedback_id=request.feedback_id, **answer)
                ctx.feedback_manager.provide_feedback(request.feedback_id, response)
        time.sleep(0.02)
    flow.join()
    requests = ctx.feedback_manager.list_requests(ctx.session_id)
    finish(
        results={name: ctx.get_result(name) for name in ["approval", "words"]},
        gave_up=str(ctx.get_result("unanswered")).endswith("timed out after 0.5 seconds"),
        statuses={request.task_id: request.status for request in requests},
        written=ctx.channel.get("deploy"),
    )
