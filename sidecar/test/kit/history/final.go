package history

// Final is what Redis holds at the end of a test.
type Final struct {
	Completions map[string]map[string]Completion // by group and by task
	Counters    map[string]int                   // by group
	Results     map[string]string                // by task
	Letters     []Letter
	Keys        []string // of the sidecars
}

// Completion is what Graflow keeps about the end of a task.
type Completion struct {
	TaskID  string  `json:"task_id"`
	Success bool    `json:"success"`
	At      float64 `json:"timestamp"`
	Error   *string `json:"error_message"`
}

// Letter is a dead letter.
type Letter struct {
	Task, Raw, Reason, Message, Stderr string
	Attempts                           int
}
