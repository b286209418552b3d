package config

// The variables are two structs for envconfig, each field with its full name in
// the tag and no prefix given to envconfig: with a prefix and a tag it would
// also read the bare name, so that a MODE or a PYTHON that is set for another
// program would reach the sidecar.
//
// Every field is a value, which takes any text: envconfig itself would turn an
// empty variable into an error for a number, accept an empty one where it is
// required, and split texts at commas. What a text means is decided in
// settings.go, with a message of our own.

// dropIn are the names of Graflow's worker (graflow/worker/main.py), with its
// defaults, and those that everything that speaks to Redis uses.
type dropIn struct {
	WorkerID           value `envconfig:"WORKER_ID" flag:"worker-id" section:"Graflow's own names" shown:"worker_{pid}" help:"Label of this sidecar in logs and listings; need not be unique."`
	MaxConcurrentTasks value `envconfig:"MAX_CONCURRENT_TASKS" flag:"max-concurrent-tasks" help:"How many tasks run at once, over all worker processes; with SIDECAR_WORKERS, of each kind; with SIDECAR_MODE=supervise, in each of them."`
	PollInterval       value `envconfig:"POLL_INTERVAL" flag:"poll-interval" shown:"0.1" help:"Pause between looks at the queue where Redis cannot block, 1 ms at least; an idle sidecar is woken at once otherwise."`
	RedisHost          value `envconfig:"REDIS_HOST" flag:"redis-host" help:"Host of Redis, or the path of a Unix socket."`
	RedisPort          value `envconfig:"REDIS_PORT" flag:"redis-port" help:"Port of Redis. A Kubernetes service link (tcp://10.0.0.1:6379) gives its port, and its address unless REDIS_HOST is set."`
	RedisDB            value `envconfig:"REDIS_DB" flag:"redis-db" help:"Database number."`
	RedisKeyPrefix     value `envconfig:"REDIS_KEY_PREFIX" flag:"redis-key-prefix" help:"Prefix of Graflow's keys: the queue is PREFIX:queue."`
	LogLevel           value `envconfig:"LOG_LEVEL" flag:"log-level" help:"Least level that is logged, here and by Graflow workers."`

	RedisURL          value `envconfig:"REDIS_URL" flag:"redis-url" section:"Where Redis is" secret:"true" help:"Where Redis is, in one: redis://, rediss:// or unix://. It beats REDIS_HOST, REDIS_PORT and, where it names a database, REDIS_DB. embedded starts a Redis that the sidecar owns: on REDIS_PORT if that is set, in memory only, open to every user of this machine."`
	RedisUsername     value `envconfig:"REDIS_USERNAME" help:"User for Redis' access control lists."`
	RedisPassword     value `envconfig:"REDIS_PASSWORD" secret:"true" exact:"true" help:"Password."`
	RedisPasswordFile value `envconfig:"REDIS_PASSWORD_FILE" help:"File that holds the password; a line break at its end is dropped."`
	RedisTLS          value `envconfig:"REDIS_TLS" help:"Speak TLS; rediss:// means the same."`
	RedisTLSCAFile    value `envconfig:"REDIS_TLS_CA_FILE" help:"Certificates that the server's is checked against, PEM; the system's if unset."`
	RedisTLSCertFile  value `envconfig:"REDIS_TLS_CERT_FILE" help:"Our certificate, PEM, where the server wants one."`
	RedisTLSKeyFile   value `envconfig:"REDIS_TLS_KEY_FILE" help:"The key of that certificate, PEM."`
	RedisTLSServer    value `envconfig:"REDIS_TLS_SERVER_NAME" help:"Name in the server's certificate where it is not the host's."`
	RedisTLSInsecure  value `envconfig:"REDIS_TLS_INSECURE" help:"Do not check the server's certificate. For tests."`
	RedisAddrs        value `envconfig:"REDIS_ADDRS" help:"host:port of several, separated by commas: the sentinels with REDIS_SENTINEL_MASTER, else nodes of a Redis Cluster."`
	RedisSentinel     value `envconfig:"REDIS_SENTINEL_MASTER" help:"Name of the master that the sentinels in REDIS_ADDRS watch."`

	RedisSentinelUser     value `envconfig:"REDIS_SENTINEL_USERNAME" help:"User for the sentinels, where they want one; REDIS_USERNAME is for the master."`
	RedisSentinelPassword value `envconfig:"REDIS_SENTINEL_PASSWORD" secret:"true" exact:"true" help:"Password for the sentinels, where they want one."`
}

// own are the sidecar's own names.
type own struct {
	Mode        value `envconfig:"SIDECAR_MODE" flag:"mode" section:"The worker" help:"What a worker is: rpc is a program that speaks the worker protocol, exec any executable, started for each task, supervise a program that takes its tasks from Redis itself; see docs/modes.md."`
	Replicas    value `envconfig:"SIDECAR_REPLICAS" flag:"replicas" help:"How many workers are kept running with SIDECAR_MODE=supervise."`
	Graflow     value `envconfig:"SIDECAR_GRAFLOW" flag:"graflow" help:"Run Graflow's tasks with the Python adapter that the binary carries, in place of a worker command."`
	Workers     value `envconfig:"SIDECAR_WORKERS" flag:"worker" list:"true" help:"PATTERN=COMMAND LINE, for each of several kinds of worker in place of one command: it runs the tasks whose id fits the pattern, the first that fits counts. exec: before the command line means that mode; graflow in its place is the adapter. See docs/routing.md."`
	WorkerSlots value `envconfig:"SIDECAR_WORKER_SLOTS" flag:"worker-slots" list:"true" help:"PATTERN=N: how many tasks of the kind of worker with that pattern run at once; MAX_CONCURRENT_TASKS if not said."`
	Python      value `envconfig:"SIDECAR_PYTHON" flag:"python" help:"Python that has Graflow installed, for SIDECAR_GRAFLOW."`
	Prefork     value `envconfig:"SIDECAR_PREFORK" shown:"true on Linux" help:"Whether Graflow is imported once and the workers are forked from there, with SIDECAR_GRAFLOW; see docs/processes.md. SIGHUP imports it anew."`
	WorkerDir   value `envconfig:"SIDECAR_WORKER_DIR" help:"Working directory of the workers; the sidecar's own if unset."`
	Socket      value `envconfig:"SIDECAR_WORKER_SOCKET" help:"Path of a Unix socket, in a folder that another container shares: the workers run there, under sidecar connect, and no command is given here; see docs/socket.md. For sidecar connect it is the socket to connect to."`
	SocketMode  value `envconfig:"SIDECAR_WORKER_SOCKET_MODE" help:"Access mode of that socket: 0660 is its user and its group, which fsGroup makes the same for the containers of a pod."`
	ChildEnv    value `envconfig:"SIDECAR_CHILD_ENV" help:"Variables that workers get although they would be kept from them, names separated by commas. Workers get the sidecar's environment without SIDECAR_ names and, unless they speak to Redis themselves, without Redis' credentials; sidecar config lists what they do not get."`

	StartTimeout      value `envconfig:"SIDECAR_START_TIMEOUT" help:"How long a worker may take to answer initialize."`
	StartRetries      value `envconfig:"SIDECAR_START_RETRIES" help:"How often the start of a worker is tried again before the sidecar gives up with exit status 70, if none ever started (with supervise: if none ever ran for 5 s)."`
	RestartBackoffMin value `envconfig:"SIDECAR_RESTART_BACKOFF_MIN" help:"Bound of the pause before a worker that died is started again, which is drawn by chance from nothing to that; doubles while workers keep dying, and starts over when one has lived for a minute."`
	RestartBackoffMax value `envconfig:"SIDECAR_RESTART_BACKOFF_MAX" help:"Longest such pause."`
	CrashLoopExit     value `envconfig:"SIDECAR_CRASH_LOOP_EXIT" help:"End with exit status 70 when the workers keep dying: every slot's worker has ended five times in a row without answering a task or living for a minute. What has not started goes back at no cost. Otherwise the sidecar says so once, is not ready, and goes on trying until a worker does either."`
	MaxTasksPerChild  value `envconfig:"SIDECAR_MAX_TASKS_PER_CHILD" help:"Tasks after which a worker process is replaced by a fresh one; 0 means never. Chance takes up to a fifth off, for each process anew, so that they do not all go together. The successor is started first, no task is cut short, and of all workers a quarter at most (but one) is replaced at a time; the same holds for the next two."`
	MaxChildAge       value `envconfig:"SIDECAR_MAX_CHILD_AGE" help:"Age at which a worker process is replaced; 0 means never. Chance takes up to a fifth off."`
	MaxChildRSS       value `envconfig:"SIDECAR_MAX_CHILD_RSS" help:"Memory (resident set) of a worker process above which it is replaced, when it has done what it runs; looked at once a second and after tasks. Its own children do not count. Linux only."`
	MaxLent           value `envconfig:"SIDECAR_MAX_LENT" help:"Maximum number of extra slots, one for each task that only waits for other tasks, as for the barrier of a nested group. A worker process is started for each extra slot, and kept for at least half a minute after its last use. 0 means none: nested groups then need free slots."`
	PingInterval      value `envconfig:"SIDECAR_WORKER_PING_INTERVAL" help:"Pause between pings to a worker."`
	PingTimeout       value `envconfig:"SIDECAR_WORKER_PING_TIMEOUT" help:"How long an idle worker may leave a ping unanswered before it is replaced."`
	WriteTimeout      value `envconfig:"SIDECAR_WORKER_WRITE_TIMEOUT" help:"How long a worker may leave its stdin unread."`
	KillGrace         value `envconfig:"SIDECAR_KILL_GRACE" help:"Time between asking a worker or a task to end and killing it."`
	MaxMessageBytes   value `envconfig:"SIDECAR_MAX_MESSAGE_BYTES" help:"Longest line of the worker protocol, in bytes; with exec the longest record and the longest result. A record for which there is no room in a line (512 bytes are kept for what stands around it) is a dead letter, and no worker is given it."`
	ExecOutput        value `envconfig:"SIDECAR_EXEC_OUTPUT" help:"What the stdout of a program of mode exec is: text is UTF-8, and a task whose output is not has failed; latin1 is ISO 8859-1, which is made UTF-8 of; base64 is any bytes, and the result is a string of them in base64. See docs/modes.md."`

	QueueKey         value `envconfig:"SIDECAR_QUEUE_KEY" section:"Tasks" shown:"{REDIS_KEY_PREFIX}:queue" help:"Key of the list that records are taken from. A prefix has one queue: give each queue a REDIS_KEY_PREFIX of its own, since a sidecar is refused while others of its prefix serve another queue. Not with Graflow's workers, whose queue is always PREFIX:queue."`
	QueueSide        value `envconfig:"SIDECAR_QUEUE_SIDE" help:"End of the queue that tasks are taken from: left as Graflow's worker does, right for first in, first out within a group."`
	TaskTimeout      value `envconfig:"SIDECAR_TASK_TIMEOUT" flag:"task-timeout" help:"Longest run of one task; 0 means no limit."`
	UnroutedTimeout  value `envconfig:"SIDECAR_UNROUTED_TIMEOUT" help:"How long a task is kept that no kind of worker takes (SIDECAR_WORKERS), in no sidecar of the prefix, before it becomes a dead letter."`
	MaxAttempts      value `envconfig:"SIDECAR_MAX_ATTEMPTS" help:"How many deliveries of a task may be lost to crashes before it becomes a dead letter."`
	MaxUnreported    value `envconfig:"SIDECAR_MAX_UNREPORTED_BYTES" help:"Bytes of results and records that may wait to be reported to Redis; nothing is claimed above it, and what runs goes on. 0 means no limit. See the metric graflow_sidecar_unreported_bytes."`
	ResultTTL        value `envconfig:"SIDECAR_RESULT_TTL" help:"How long Redis keeps the result of a record without a session_id, which is PREFIX:sidecar:result:TASK_ID; 0 means until it is deleted. The results of records with a session are Graflow's: they stay until the workflow, or who reads them, deletes them. See docs/records.md."`
	DeadLetterMax    value `envconfig:"SIDECAR_DEAD_LETTER_MAX" help:"Dead letters that are kept; the oldest ones above that are deleted, which the log and the metric graflow_sidecar_dead_letters_dropped_total tell. 0 means any number. Give all sidecars of a prefix the same."`
	DeadLetterMaxAge value `envconfig:"SIDECAR_DEAD_LETTER_MAX_AGE" help:"Age at which dead letters are deleted, by Redis' clock; 180 days by default, 0 means never."`
	RetryBase        value `envconfig:"SIDECAR_RETRY_BASE" help:"Pause before a task is tried again whose failure the worker called retryable; doubles with every further one."`
	RetryMax         value `envconfig:"SIDECAR_RETRY_MAX" help:"Longest such pause."`
	RetryJitter      value `envconfig:"SIDECAR_RETRY_JITTER" help:"Share of the pause that chance may take off."`
	ShutdownTimeout  value `envconfig:"SIDECAR_SHUTDOWN_TIMEOUT" flag:"shutdown-timeout" section:"The stop and the log" help:"Budget of a stop, counted from its signal; keep it under the 30 s that Kubernetes gives."`
	StopRedisWait    value `envconfig:"SIDECAR_STOP_REDIS_WAIT" help:"How long a stop waits for a Redis that is gone, once the running tasks have ended; then it keeps in SIDECAR_SPOOL_DIR, or names, what could not be reported. Never beyond the budget; 0 means not at all."`
	SpoolDir         value `envconfig:"SIDECAR_SPOOL_DIR" help:"Folder where results are kept that Redis could not be told before the end of a stop; the next start with the same folder reports them. Best effort: a record that was taken over meanwhile runs again."`
	HTTPAddr         value `envconfig:"SIDECAR_HTTP_ADDR" flag:"http-addr" help:"Address for /livez, /readyz, /startupz, /status and /metrics; port 0 takes one that is free, which the log and the registry then tell; off means none."`
	DebugAddr        value `envconfig:"SIDECAR_DEBUG_ADDR" help:"Loopback address that serves Go profiles of the sidecar under /debug/pprof/; off if unset. See docs/performance.md."`
	LogFormat        value `envconfig:"SIDECAR_LOG_FORMAT" flag:"log-format" help:"auto is text on a terminal and json elsewhere."`

	HTTPHosts      value `envconfig:"SIDECAR_HTTP_HOSTS" section:"The page" help:"Names that the address answers to besides its own, separated by commas. On loopback that is localhost alone; on another address any name, unless this is set."`
	AdminToken     value `envconfig:"SIDECAR_ADMIN_TOKEN" secret:"true" exact:"true" help:"Token that allows actions on the page, and to see more than counts on an address that is not loopback; see docs/monitoring.md. Without one the page only shows."`
	AdminTokenFile value `envconfig:"SIDECAR_ADMIN_TOKEN_FILE" help:"File that holds the token, read at the start."`

	PoolSize        value `envconfig:"SIDECAR_REDIS_POOL_SIZE" section:"Connections to Redis" help:"Most connections at once for reports."`
	MinIdleConns    value `envconfig:"SIDECAR_REDIS_MIN_IDLE_CONNS" help:"Idle connections that are kept open."`
	ConnMaxIdleTime value `envconfig:"SIDECAR_REDIS_CONN_MAX_IDLE_TIME" help:"Idle connections are closed after this time."`
	HealthCheck     value `envconfig:"SIDECAR_REDIS_HEALTH_CHECK_INTERVAL" help:"How often idle connections are checked; in Graflow workers, the idle time after which one is checked before it is used."`
	RedisPing       value `envconfig:"SIDECAR_REDIS_PING_INTERVAL" help:"How long the sidecar hears nothing of Redis before it pings it."`
	DialTimeout     value `envconfig:"SIDECAR_REDIS_DIAL_TIMEOUT" help:"Longest wait for a connection."`
	ReadTimeout     value `envconfig:"SIDECAR_REDIS_READ_TIMEOUT" help:"Longest wait for a reply in which no byte arrives."`
	RedisRetryBase  value `envconfig:"SIDECAR_REDIS_RETRY_BASE" help:"Pause before Redis is tried again after a connection or timeout error; doubles with every further one."`
	RedisRetryMax   value `envconfig:"SIDECAR_REDIS_RETRY_MAX" help:"Longest such pause."`
	RedisWrite      value `envconfig:"SIDECAR_REDIS_WRITE_TIMEOUT" help:"Longest wait in which nothing of a command can be sent."`
	WorkerPool      value `envconfig:"SIDECAR_REDIS_WORKER_POOL_SIZE" help:"Most connections at once of each of a Graflow worker's clients; the timeouts and the check of idle connections are the ones above."`
	WorkerRetries   value `envconfig:"SIDECAR_REDIS_WORKER_RETRIES" help:"How often a Graflow worker repeats a command after a connection or timeout error, with growing pauses, before its task is handed back."`
}
