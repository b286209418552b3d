package config

// The variables are two structs for envconfig, each field with its full name
// in the tag and no prefix given to envconfig: with a prefix and a tag it
// would also read the bare name, so that a MODE or a PYTHON in somebody's
// environment would reach us.
//
// Every field is a value, which takes any text: envconfig itself would turn an
// empty variable into an error for a number, accept an empty one where it is
// required, and split texts at commas. What a text means is decided in
// settings.go, with a message of our own.

// dropIn are the names of Graflow's worker (graflow/worker/main.py), with its
// defaults, and those that everything that speaks to Redis uses.
type dropIn struct {
	WorkerID           value `envconfig:"WORKER_ID" flag:"worker-id" section:"Graflow's own names" shown:"worker_{pid}" help:"Label of this sidecar in logs and listings; need not be unique."`
	MaxConcurrentTasks value `envconfig:"MAX_CONCURRENT_TASKS" flag:"max-concurrent-tasks" help:"How many tasks run at once, over all worker processes."`
	PollInterval       value `envconfig:"POLL_INTERVAL" flag:"poll-interval" shown:"0.1" help:"Pause between looks at the queue where Redis cannot block; an idle sidecar is woken at once otherwise."`
	RedisHost          value `envconfig:"REDIS_HOST" flag:"redis-host" help:"Host of Redis, or the path of a Unix socket."`
	RedisPort          value `envconfig:"REDIS_PORT" flag:"redis-port" help:"Port of Redis. A Kubernetes service link (tcp://10.0.0.1:6379) gives its port, and its address unless REDIS_HOST is set."`
	RedisDB            value `envconfig:"REDIS_DB" flag:"redis-db" help:"Database number."`
	RedisKeyPrefix     value `envconfig:"REDIS_KEY_PREFIX" flag:"redis-key-prefix" help:"Prefix of Graflow's keys: the queue is PREFIX:queue."`
	LogLevel           value `envconfig:"LOG_LEVEL" flag:"log-level" help:"Least level that is logged, here and by Graflow workers."`

	RedisURL          value `envconfig:"REDIS_URL" flag:"redis-url" section:"Where Redis is" secret:"true" help:"Where Redis is, in one: redis://, rediss:// or unix://. It beats REDIS_HOST, REDIS_PORT and, where it names a database, REDIS_DB. embedded starts a Redis that the sidecar owns: on REDIS_PORT if that is set, in memory only, open to whoever is on this machine."`
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
}

// own are the sidecar's own names.
type own struct {
	Mode      value `envconfig:"SIDECAR_MODE" flag:"mode" section:"The worker" help:"How a worker is spoken to: rpc is the worker protocol on its stdin and stdout."`
	Graflow   value `envconfig:"SIDECAR_GRAFLOW" flag:"graflow" help:"Run Graflow's tasks with the Python adapter that the binary carries, in place of a worker command."`
	Python    value `envconfig:"SIDECAR_PYTHON" flag:"python" help:"Python that has Graflow installed, for SIDECAR_GRAFLOW."`
	Prefork   value `envconfig:"SIDECAR_PREFORK" shown:"true on Linux" help:"Whether Graflow is imported once and the workers are forked from there, with SIDECAR_GRAFLOW; see docs/prefork.md. SIGHUP imports it anew."`
	WorkerDir value `envconfig:"SIDECAR_WORKER_DIR" help:"Working directory of the workers; the sidecar's own if unset."`
	ChildEnv  value `envconfig:"SIDECAR_CHILD_ENV" help:"Variables that workers get although they would be kept from them, names separated by commas. Workers get the sidecar's environment without SIDECAR_ names and without Redis' credentials."`

	StartTimeout      value `envconfig:"SIDECAR_START_TIMEOUT" help:"How long a worker may take to answer initialize."`
	StartRetries      value `envconfig:"SIDECAR_START_RETRIES" help:"How often the start of a worker is tried again before the sidecar gives up with exit status 70, if none ever started."`
	RestartBackoffMin value `envconfig:"SIDECAR_RESTART_BACKOFF_MIN" help:"Pause before a worker that died is started again; doubles while it keeps dying."`
	RestartBackoffMax value `envconfig:"SIDECAR_RESTART_BACKOFF_MAX" help:"Longest such pause."`
	PingInterval      value `envconfig:"SIDECAR_WORKER_PING_INTERVAL" help:"Pause between pings to a worker."`
	PingTimeout       value `envconfig:"SIDECAR_WORKER_PING_TIMEOUT" help:"How long an idle worker may leave a ping unanswered before it is replaced."`
	WriteTimeout      value `envconfig:"SIDECAR_WORKER_WRITE_TIMEOUT" help:"How long a worker may leave its stdin unread."`
	KillGrace         value `envconfig:"SIDECAR_KILL_GRACE" help:"Time between asking a worker or a task to end and killing it."`
	MaxMessageBytes   value `envconfig:"SIDECAR_MAX_MESSAGE_BYTES" help:"Longest line of the worker protocol, in bytes."`

	QueueSide       value `envconfig:"SIDECAR_QUEUE_SIDE" section:"Tasks" help:"End of the queue that tasks are taken from: left as Graflow's worker does, right for first in, first out within a group."`
	TaskTimeout     value `envconfig:"SIDECAR_TASK_TIMEOUT" flag:"task-timeout" help:"Longest run of one task; 0 means no limit."`
	MaxAttempts     value `envconfig:"SIDECAR_MAX_ATTEMPTS" help:"How many deliveries of a task may be lost to crashes before it becomes a dead letter."`
	RetryBase       value `envconfig:"SIDECAR_RETRY_BASE" help:"Pause before a task is tried again whose failure the worker called retryable; doubles with every further one."`
	RetryMax        value `envconfig:"SIDECAR_RETRY_MAX" help:"Longest such pause."`
	RetryJitter     value `envconfig:"SIDECAR_RETRY_JITTER" help:"Share of the pause that chance may take off."`
	ShutdownTimeout value `envconfig:"SIDECAR_SHUTDOWN_TIMEOUT" flag:"shutdown-timeout" section:"The stop and the log" help:"Budget of a stop, counted from its signal; keep it under the 30 s that Kubernetes gives."`
	SpoolDir        value `envconfig:"SIDECAR_SPOOL_DIR" help:"Folder where results are kept that Redis could not be told before the end of a stop; the next start with the same folder reports them. Best effort: a record that was taken over meanwhile runs again."`
	LogFormat       value `envconfig:"SIDECAR_LOG_FORMAT" flag:"log-format" help:"auto is text on a terminal and json elsewhere."`

	PoolSize        value `envconfig:"SIDECAR_REDIS_POOL_SIZE" section:"Connections to Redis" help:"Most connections at once for reports."`
	MinIdleConns    value `envconfig:"SIDECAR_REDIS_MIN_IDLE_CONNS" help:"Idle connections that are kept open."`
	ConnMaxIdleTime value `envconfig:"SIDECAR_REDIS_CONN_MAX_IDLE_TIME" help:"Idle connections are closed after this time."`
	HealthCheck     value `envconfig:"SIDECAR_REDIS_HEALTH_CHECK_INTERVAL" help:"Idle time after which Graflow workers check a connection before they use it."`
	RedisPing       value `envconfig:"SIDECAR_REDIS_PING_INTERVAL" help:"Pause between the sidecar's pings to Redis."`
	DialTimeout     value `envconfig:"SIDECAR_REDIS_DIAL_TIMEOUT" help:"Longest wait for a connection."`
	ReadTimeout     value `envconfig:"SIDECAR_REDIS_READ_TIMEOUT" help:"Longest wait for a reply."`
	RedisWrite      value `envconfig:"SIDECAR_REDIS_WRITE_TIMEOUT" help:"Longest wait to send a command."`
}
