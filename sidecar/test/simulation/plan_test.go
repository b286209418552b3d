//go:build simulation

package simulation

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/simnet"
)

// fault is a kind of fault, or of what operators do, that the driver causes. The faults of
// requests are those of simnet.
type fault string

const (
	refusesDials fault = "dials refused"
	slowLink     fault = "slow link"
	freezesHost  fault = "sidecar frozen"
	cutsHost     fault = "connections cut"

	outage       fault = "redis down"
	freezesRedis fault = "redis frozen"
	failover     fault = "failover that loses a tail"
	flush        fault = "FLUSHALL"
	scriptFlush  fault = "SCRIPT FLUSH"
	clockBack    fault = "clock back"
	clockAhead   fault = "clock ahead"
	memoryFull   fault = "memory full"
	readOnly     fault = "read only"
	loading      fault = "loading"

	kills      fault = "sidecar killed"
	stops      fault = "sidecar stopped"
	stopsTwice fault = "sidecar stopped, second signal"
	drainsRun  fault = "drain command"
	restarts   fault = "restart command"
	reloads    fault = "reload"
	quiets     fault = "quiet"
	pauses     fault = "pause"

	killsChild   fault = "worker killed"
	freezesChild fault = "worker frozen"
	killsTree    fault = "SIGTERM to the whole tree"
	stallsLog    fault = "log reader stalls"

	requeuesDead fault = "dead letter requeued"
	dropsDead    fault = "dead letter dropped"

	// The failpoints: at a call of a stage, see failpoint_test.go.
	killsAt   fault = "failpoint kill"
	freezesAt fault = "failpoint freeze"
	delaysAt  fault = "failpoint delay"
)

// driven are the faults that the driver causes by itself, at random times.
var driven = []fault{
	refusesDials, slowLink, freezesHost, cutsHost, outage, freezesRedis, failover, flush, scriptFlush, clockBack, clockAhead, memoryFull, readOnly, loading,
	kills, stops, stopsTwice, drainsRun, restarts, reloads, quiets, pauses, killsChild, freezesChild, killsTree, stallsLog, requeuesDead, dropsDead,
}

// plan is what one seed varies. Each seed has a random subset of the faults and the shapes:
// with all of them at once, few would ever meet the state that they break.
type plan struct {
	duration time.Duration // of the load and the faults
	fleet    int

	faults   []fault
	every    time.Duration // mean pause between two faults
	requests []simnet.Fault
	chance   float64 // of a fault at each request
	points   []fault
	atPoint  float64 // chance of a fault at each failpoint

	behaviours []behaviour
	badShare   float64
	batches    time.Duration // mean pause between two batches of records
	batch      int           // records at most
	groupShare float64
	workMs     int
	sizes      []int // of records and results
	duplicates bool

	slots, concurrency int
	kinds              bool
	exec               bool
	right              bool
	spool              bool
	taskTimeout        time.Duration
	maxMessage         int
	maxUnreported      int64
	tasksPerChild      int
	maxBulk            int // of Redis
	outputLimit        int
	latency            time.Duration
	rate               int           // of the link, bytes a second; 0 is unlimited
	budget             time.Duration // of a stop
	startTime          time.Duration // of a worker
}

// makePlan draws a plan. The pauses of long seeds are longer: most of an idle hour shows
// that nothing happens, and is cheap.
func makePlan(rnd *rand.Rand) plan {
	p := plan{
		duration: time.Duration(pick(rnd, 2, 5, 10, 20, 40)) * time.Minute, fleet: 1 + rnd.IntN(3),
		slots: 1 + rnd.IntN(4), concurrency: 1, workMs: pick(rnd, 1, 20, 200, 1500), groupShare: rnd.Float64(), batch: 1 + rnd.IntN(12),
		taskTimeout: time.Duration(pick(rnd, 3, 5, 10, 20)) * time.Second, maxMessage: pick(rnd, 16<<10, 64<<10, 256<<10), maxBulk: 512 << 20,
		latency: pick(rnd, 0, 50*time.Microsecond, 500*time.Microsecond, 5*time.Millisecond), budget: time.Duration(pick(rnd, 3, 10, 25)) * time.Second,
		startTime: pick(rnd, 0, 20*time.Millisecond, 500*time.Millisecond),
	}
	p.batches = p.duration / time.Duration(5+rnd.IntN(60))
	p.every = p.duration / time.Duration(3+rnd.IntN(30))
	chance := func(of float64) bool { return rnd.Float64() < of }
	if chance(0.4) {
		p.concurrency = 2 + rnd.IntN(3)
		p.slots = max(p.slots, p.concurrency)
	}
	p.kinds, p.right, p.exec, p.spool = chance(0.2), chance(0.3), chance(0.15), chance(0.2)
	p.duplicates = chance(0.2)
	if chance(0.2) {
		p.tasksPerChild = 1 + rnd.IntN(5)
	}
	p.maxUnreported = int64(pick(rnd, 0, 64<<20, 4*p.maxMessage))
	if chance(0.3) {
		p.maxMessage, p.maxBulk = 256<<10, 128<<10 // more than a script has
	}
	if chance(0.15) {
		p.outputLimit = 1 << 20
	}
	p.sizes = []int{10, 200}
	if chance(0.5) {
		p.sizes = append(p.sizes, p.maxMessage/4, p.maxMessage-600, p.maxMessage, p.maxMessage+5000)
	}
	if chance(0.1) {
		p.sizes = append(p.sizes, 600<<10, 2<<20)
	}
	if !chance(0.1) { // a tenth of the seeds has no faults: nothing excuses a repetition then
		p.faults = subset(rnd, driven, 0.35)
		if chance(0.6) {
			p.requests = subset(rnd, simnet.Faults(), 0.5)
			p.chance = pick(rnd, 0.0005, 0.005, 0.03)
		}
		if chance(0.5) {
			p.points = subset(rnd, []fault{killsAt, freezesAt, delaysAt}, 0.6)
			p.atPoint = pick(rnd, 0.0005, 0.003, 0.01)
		}
	}
	if chance(0.7) {
		p.behaviours = subset(rnd, bad, 0.3)
		p.badShare = pick(rnd, 0.05, 0.2, 0.5)
	}
	for _, b := range []behaviour{asksChannel, enqueues, nests} {
		if chance(0.4) {
			p.behaviours = append(p.behaviours, b)
			p.badShare = max(p.badShare, 0.1)
		}
	}
	if chance(0.15) { // large results over a link that stays slow take longer than the timeouts
		p.rate = pick(rnd, 60<<10, 300<<10)
		p.sizes = append(p.sizes, p.maxMessage/2, p.maxMessage-2100)
	}
	if chance(0.2) {
		p.workMs, p.taskTimeout = 10_000, 30*time.Second
	}
	if chance(0.3) { // no deadline ends what the sidecar does not recognise
		p.taskTimeout = 0
		p.behaviours = slices.DeleteFunc(p.behaviours, behaviour.needsDeadline)
	}
	return p
}

func pick[T any](rnd *rand.Rand, of ...T) T { return of[rnd.IntN(len(of))] }

// subset returns each element with a chance.
func subset[T any](rnd *rand.Rand, of []T, chance float64) (some []T) {
	for _, e := range of {
		if rnd.Float64() < chance {
			some = append(some, e)
		}
	}
	return some
}

// has tells whether the plan has a fault.
func (p *plan) has(some ...fault) bool {
	return slices.ContainsFunc(p.faults, func(f fault) bool { return slices.Contains(some, f) })
}

// faultless tells that nothing but the records themselves goes wrong.
func (p *plan) faultless() bool { return len(p.faults)+len(p.requests)+len(p.points) == 0 }

// forgets tells that Redis may lose what it has acknowledged.
func (p *plan) forgets() bool { return p.has(failover, flush) }

// holdsSlot returns how long one task may hold its slot: until it has ended, or until its
// deadline, after which its worker may have to be killed and replaced.
func (p *plan) holdsSlot() time.Duration {
	work := time.Duration(p.workMs) * time.Millisecond
	if p.taskTimeout > 0 && slices.ContainsFunc(p.behaviours, behaviour.needsDeadline) {
		return p.taskTimeout + 10*time.Second
	}
	return work + 3*time.Second
}

// configure makes the settings of a sidecar of this plan.
func (p *plan) configure(c *config.Config) {
	c.Slots, c.TaskTimeout, c.ShutdownTimeout = p.slots, p.taskTimeout, p.budget
	c.Retry = config.Retry{Base: time.Second, Max: 5 * time.Second, Jitter: 0.5}
	c.UnroutedTimeout, c.MaxUnreportedBytes = 20*time.Second, p.maxUnreported
	if p.right {
		c.QueueSide = config.QueueRight
	}
	w := &c.Worker
	w.Command = []string{program, "rpc"}
	w.MaxMessageBytes, w.MaxTasksPerChild = p.maxMessage, p.tasksPerChild
	w.RestartBackoffMax, w.KillGrace, w.StartTimeout, w.MaxLent = 3*time.Second, 2*time.Second, 10*time.Second, 4
	w.WriteTimeout, w.PingInterval, w.PingTimeout = 10*time.Second, 15*time.Second, 10*time.Second
	if p.exec && !p.kinds {
		c.Mode = config.ModeExec
		w.Command = []string{program, "exec"}
	}
	if p.kinds {
		rpc, exec := *w, *w
		exec.Command = []string{program, "exec"}
		c.Kinds = []config.Kind{
			{Pattern: "x*", Mode: config.ModeExec, Slots: p.slots, Worker: exec},
			{Pattern: "t*", Mode: config.ModeRPC, Slots: p.slots, Worker: rpc},
			{Pattern: "p*", Mode: config.ModeRPC, Slots: 1, Worker: rpc},
		}
		w.Command = nil
	}
}

// program is a file that exists, since mode exec looks for it. It is never run.
const program = "/bin/true"
