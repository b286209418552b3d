"""peers.py rq|celery N: put N tasks into the queue of one of our peers."""

import os
import sys

kind, count = sys.argv[1], int(sys.argv[2])
record = "x" * 300

if kind == "rq":
    import redis
    from noop import noop
    from rq import Queue

    queue = Queue(connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
    queue.enqueue_many([Queue.prepare_data(noop, (record,), result_ttl=0) for _ in range(count)])
else:
    from noop import app, nothing

    with app.producer_pool.acquire() as producer:
        for _ in range(count):
            nothing.apply_async((record,), producer=producer)
