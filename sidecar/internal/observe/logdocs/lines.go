package logdocs

// lines are the warnings and errors of the log, by their messages, with the anchors
// of the headings that they are explained under. A test finds every message in the
// source and every anchor in the document.
var lines = map[string]string{
	"redis is lost, waiting for it": "redis-is-lost",
	"redis is still lost":           "redis-is-lost",

	"redis may evict keys: set maxmemory-policy to noeviction": "redis-evicts-keys",

	"embedded redis has ended: its tasks are lost":              "the-embedded-redis-has-ended",
	"not reported before the end: lost with the embedded redis": "the-embedded-redis-has-ended",

	"embedded redis cannot be started, trying again": "the-embedded-redis-has-ended",

	"embedded redis panicked at a command: connection closed": "the-embedded-redis-has-ended",

	"two redis servers answer at one address": "two-servers-at-one-address",

	"redis refuses a request of a worker: the request waits": "redis-refuses-what-a-worker-asks",

	"redis did not come back: the stop goes on without it":    "the-sidecar-ended-with-results-that-redis-has-not-heard-of",
	"redis did not come back: outcomes are spooled":           "the-sidecar-ended-with-results-that-redis-has-not-heard-of",
	"outcomes could not be spooled":                           "the-sidecar-ended-with-results-that-redis-has-not-heard-of",
	"not reported before the end: it will be delivered again": "the-sidecar-ended-with-results-that-redis-has-not-heard-of",

	"spool cannot be read":                             "the-spool-cannot-be-used",
	"spool file cannot be used and is skipped":         "the-spool-cannot-be-used",
	"spool file of another redis or prefix is skipped": "the-spool-cannot-be-used",
	"spool file cannot be reported and is kept":        "the-spool-cannot-be-used",
	"spool file has unreadable lines and is kept":      "the-spool-cannot-be-used",

	"spooled outcome is superseded": "a-spooled-outcome-is-superseded",

	"outcome dropped: another sidecar has taken the record over": "a-sidecar-was-given-up-for-dead",
	"lease lost: the tasks of this sidecar start over elsewhere": "a-sidecar-was-given-up-for-dead",
	"taking over the records of a lost sidecar":                  "a-sidecar-was-given-up-for-dead",

	"worker did not start, trying again":                    "the-worker-does-not-start",
	"worker did not start":                                  "the-worker-does-not-start",
	"command cannot be run, trying again":                   "the-worker-does-not-start",
	"process cannot be started: tasks go back to the queue": "the-worker-does-not-start",

	"new worker does not start: the old ones stay":         "a-new-worker-does-not-start",
	"new worker does not stay up: the other old ones stay": "a-new-worker-does-not-start",
	"replacement of a worker does not start":               "a-new-worker-does-not-start",

	"worker ended":                 "a-worker-ended",
	"worker does not stop: killed": "a-worker-ended",

	"crash loop: not ready until a worker keeps running": "crash-loop",

	"malformed message from the worker": "a-worker-breaks-the-protocol",
	"unexpected response id":            "a-worker-breaks-the-protocol",

	"worker message without a line end: taken after a pause": "a-worker-breaks-the-protocol",

	"response to a worker is too long": "a-message-is-too-long",

	"leftover processes of a worker cannot be killed": "processes-are-left-behind",
	"leftover processes of workers cannot be adopted": "processes-are-left-behind",

	"fork server ended, starting another one":                 "workers-are-not-forked",
	"workers cannot be forked: starting them one by one":      "workers-are-not-forked",
	"fork server does not start: starting workers one by one": "workers-are-not-forked",
	"worker could not be forked: starting it by itself":       "workers-are-not-forked",

	"supervised workers cannot be paused": "supervised-workers-go-on",

	"task failed":              "a-task-failed",
	"task will be tried again": "a-task-failed",

	"task is past its deadline: cancelled": "a-task-is-past-its-deadline",
	"task is past its deadline: ended":     "a-task-is-past-its-deadline",

	"task lost with its worker, handed back": "a-task-was-lost-with-its-worker",

	"record put into the dead letters": "dead-letters",

	"no worker to replace in this slot": "an-order-was-not-carried-out",
	"unknown command":                   "an-order-was-not-carried-out",

	"opentelemetry variable cannot be used":                      "traces-are-not-delivered",
	"tracing is off: a TLS file of the collector cannot be used": "traces-are-not-delivered",
	"traces cannot be delivered and are dropped":                 "traces-are-not-delivered",

	"service manager at NOTIFY_SOCKET cannot be reached": "the-service-manager-is-not-told",
	"service manager watchdog is not served":             "the-service-manager-is-not-told",

	"sidecar is stuck: the service manager watchdog is not fed": "internal-error",

	"worker container is given up":      "a-worker-container-is-lost",
	"worker container is lost":          "a-worker-container-is-lost",
	"sidecar is lost, connecting again": "the-sidecar-is-lost",
	"worker could not be started":       "the-worker-does-not-start",

	"deadline reached: running tasks go back to the queue": "the-sidecar-is-lost",

	"connection to the worker socket could not be accepted": "a-connection-at-the-worker-socket-is-refused",
	"wrong first message on the worker socket":              "a-connection-at-the-worker-socket-is-refused",
	"no first message on the worker socket":                 "a-connection-at-the-worker-socket-is-refused",
	"connection of a worker to redis could not be accepted": "a-connection-at-the-worker-socket-is-refused",
	"internal error in a connection to the worker socket":   "internal-error",

	"action from the page failed": "an-action-from-the-page-failed",
	"wrong admin token refused":   "a-wrong-admin-token",

	"log lines were dropped": "log-lines-were-dropped",

	"readiness could not be reported to the starter": "the-starter-is-not-listening",
	"dump could not be written":                      "the-starter-is-not-listening",
}
