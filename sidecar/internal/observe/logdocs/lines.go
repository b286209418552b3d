package logdocs

// lines are the warnings and errors of the log, by their messages, with the anchors
// of the headings that they are explained under. A test finds every message in the
// source and every anchor in the document.
var lines = map[string]string{
	"redis is lost, waiting for it": "redis-is-lost",
	"redis is still lost":           "redis-is-lost",

	"redis may evict records, leases and barriers: set maxmemory-policy to noeviction": "redis-evicts-keys",

	"the embedded redis has ended: its tasks are lost with it":        "the-embedded-redis-has-ended",
	"not reported before the end: it is lost with the embedded redis": "the-embedded-redis-has-ended",

	"the embedded redis cannot be started yet: trying again": "the-embedded-redis-has-ended",

	"the embedded redis does not bear a command, whose connection is closed": "the-embedded-redis-has-ended",

	"two redis servers seem to answer at one address: one knows this run, the other does not": "two-servers-at-one-address",

	"redis refuses what a worker asks, which waits": "redis-refuses-what-a-worker-asks",

	"redis did not come back: the stop goes on without it":             "the-sidecar-ended-with-results-that-redis-has-not-heard-of",
	"redis did not come back: outcomes are spooled for the next start": "the-sidecar-ended-with-results-that-redis-has-not-heard-of",
	"outcomes could not be spooled":                                    "the-sidecar-ended-with-results-that-redis-has-not-heard-of",
	"not reported before the end: it will be delivered again":          "the-sidecar-ended-with-results-that-redis-has-not-heard-of",

	"the spool cannot be read":                                          "the-spool-cannot-be-used",
	"a spool file cannot be used and is left alone":                     "the-spool-cannot-be-used",
	"a spool file belongs to another Redis or prefix and is left alone": "the-spool-cannot-be-used",
	"a spool file cannot be reported and is kept":                       "the-spool-cannot-be-used",
	"a spool file holds lines that cannot be read, and is kept":         "the-spool-cannot-be-used",

	"a spooled outcome is superseded: its record was taken over and runs again": "a-spooled-outcome-is-superseded",

	"outcome dropped: another sidecar has taken the record over":                                             "a-sidecar-was-given-up-for-dead",
	"this sidecar was given up for dead while it could not be heard: its tasks run elsewhere, starting over": "a-sidecar-was-given-up-for-dead",
	"another sidecar is gone: taking over its records":                                                       "a-sidecar-was-given-up-for-dead",

	"worker did not start, trying again":                      "the-worker-does-not-start",
	"worker did not start":                                    "the-worker-does-not-start",
	"the command cannot be run, trying again":                 "the-worker-does-not-start",
	"a process cannot be started: tasks go back to the queue": "the-worker-does-not-start",

	"a new worker does not start: the old ones stay":           "a-new-worker-does-not-start",
	"a new worker does not stay up: the other old ones stay":   "a-new-worker-does-not-start",
	"a worker is to be replaced, and a new one does not start": "a-new-worker-does-not-start",

	"worker ended":                 "a-worker-ended",
	"worker does not stop: killed": "a-worker-ended",

	"crash loop: not ready until a worker keeps running": "crash-loop",

	"malformed message from the worker":                     "a-worker-breaks-the-protocol",
	"worker answered what was not asked, or twice: ignored": "a-worker-breaks-the-protocol",

	"a message of the worker has no line end: taken after a pause": "a-worker-breaks-the-protocol",

	"the answer to a worker's request is too long": "a-message-is-too-long",

	"processes that a worker has left behind cannot be killed": "processes-are-left-behind",
	"processes that workers leave behind are not looked after": "processes-are-left-behind",

	"the fork server ended, starting another one; the workers live on":             "workers-are-not-forked",
	"workers cannot be forked and are started one by one instead":                  "workers-are-not-forked",
	"the fork server does not start; workers are started one by one until it does": "workers-are-not-forked",
	"a worker could not be forked and is started by itself":                        "workers-are-not-forked",

	"supervised workers take their tasks themselves: they go on": "supervised-workers-go-on",

	"task failed":              "a-task-failed",
	"task will be tried again": "a-task-failed",

	"task is past its deadline: cancelled": "a-task-is-past-its-deadline",
	"task is past its deadline: ended":     "a-task-is-past-its-deadline",

	"task lost with its worker, handed back": "a-task-was-lost-with-its-worker",

	"record put into the dead letters": "dead-letters",

	"there is no worker to replace in this slot": "an-order-was-not-carried-out",
	"an order is not known to this version":      "an-order-was-not-carried-out",

	"a variable of opentelemetry cannot be used":                        "traces-are-not-delivered",
	"no traces are made: a file for the collector's TLS cannot be used": "traces-are-not-delivered",
	"traces cannot be delivered and are dropped":                        "traces-are-not-delivered",

	"the service manager at NOTIFY_SOCKET cannot be told anything": "the-service-manager-is-not-told",
	"the service manager's watchdog is not served":                 "the-service-manager-is-not-told",

	"stuck: the service manager's watchdog is not fed (this is a bug in the sidecar, please report it)": "internal-error",

	"a worker container is given up":        "a-worker-container-is-lost",
	"a worker container is lost":            "a-worker-container-is-lost",
	"the sidecar is lost, connecting again": "the-sidecar-is-lost",
	"the worker could not be started":       "the-worker-does-not-start",

	"the time is over: running tasks go back to the queue": "the-sidecar-is-lost",

	"a connection of a worker could not be taken":                                   "a-connection-at-the-worker-socket-is-refused",
	"a connection to the worker socket began with the wrong message":                "a-connection-at-the-worker-socket-is-refused",
	"a connection to the worker socket did not say what it is":                      "a-connection-at-the-worker-socket-is-refused",
	"a worker's connection to redis could not be taken":                             "a-connection-at-the-worker-socket-is-refused",
	"a worker's connection failed (this is a bug in the sidecar, please report it)": "internal-error",

	"an action from the page failed":  "an-action-from-the-page-failed",
	"a wrong admin token was refused": "a-wrong-admin-token",

	"log lines were dropped: the log was not read, or could not be written": "log-lines-were-dropped",

	"nobody heard that the sidecar is ready": "the-starter-is-not-listening",
	"the dump could not be written":          "the-starter-is-not-listening",
}
