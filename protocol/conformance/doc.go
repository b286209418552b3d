// Package conformance tests a worker of any language against the rules of
// protocol/PROTOCOL.md. It starts the worker as the sidecar does, plays the
// sidecar on its stdin and stdout, and says of every rule that can be seen from
// outside whether the worker keeps it.
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, "node", "worker.mjs")
//	}
//
// For workers without a Go test beside them the same checks are a command:
//
//	sidecar worker test -- node worker.mjs
//
// Any worker can be tested, since every worker must answer every record: one
// that it does not know is a failed task. What needs a task that takes a while,
// or one that fails, is checked when the worker's author gives such a record
// (Records); until then it is reported as not checked, never as passed.
//
// # Transcripts
//
// The checks are dialogues in the files transcripts/*.txtar, one section a
// check, under the rules that it is about:
//
//	-- unknown-request --
//	P13: an unknown request is answered with −32601
//	→ {"jsonrpc":"2.0","id":40,"method":"no/such/method","params":{}}
//	← 40 error -32601
//
// What a file's sections have in common stands before the first: "shared" is one
// worker for all of them, started anew only if it died; "chained" is one worker
// for all of them in this order, each going on where the last one stopped;
// without either, each section has a worker of its own. "start" are members of the
// params of initialize, and "needs" (slow, failing …) names records without which
// they cannot be played.
//
// The steps of a section:
//
//	spawn                   start the worker and say nothing
//	start {…}               … and initialize it; the members are merged into the
//	                        params. A section that begins otherwise is preceded by it
//	→ {…}                   send this line; successive ones go in one write
//	→ crlf {…}              … ended by CRLF
//	→ run ID RECORD         send task/run with a record: plain, quick, slow, failing,
//	                        retryable, large or exact
//	→ initialize {…}        send initialize with these members merged into its params
//	→ ping ID               likewise, and: cancel ID, shutdown
//	← ID WHAT or WHAT…      await the answer: outcome (any result of a task), succeeded,
//	                        failed, retryable, valueText, error CODE, or {…}, whose
//	                        members must be there
//	← METHOD                await a notification
//	each …                  the step once for every task the worker runs at a time,
//	                        with $i for 100, 101 …
//	pause D                 give what was sent the time to start
//	busy                    the slow tasks have not been answered yet; if they have,
//	                        the check cannot be made
//	idle                    … have been; if not, likewise
//	waits ID                the slow tasks run, and this request has no answer
//	open ID                 this slow task has not been answered yet
//	unanswered ID           this request has got no answer
//	once ID                 … no second one
//	refused ID              … none but an error
//	order ID…               the answers came in this order
//	signal NAME             send a signal to the worker's process group
//	close                   end its stdin
//	exit [STATUS] within D  it ends by itself
//
// In a line that is sent, ${cN} is the character c, N times, and ${pad N} is as
// many x as make the line N bytes long.
//
// Beside the dialogues, everything that a worker sends during any of them is held
// to the rules for messages: the checks called always/….
//
// The package imports the standard library only, as package protocol does: a
// worker's tests must not bring the sidecar's dependencies into its module. That
// is why it reads txtar by itself.
package conformance
