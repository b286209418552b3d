// Package httpauth decides what an HTTP request may see and do: which names the
// address answers to, what is shown without the admin token, and what needs it.
// Standard library only.
package httpauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Level is what a request may see and do. Each includes the ones before it.
type Level int

const (
	// Counts: numbers only. No record, task id, error or line of stderr.
	Counts Level = iota
	// Details: all that there is to see.
	Details
	// Admin: the actions, too.
	Admin
)

func (l Level) String() string {
	switch l {
	case Admin:
		return "admin"
	case Details:
		return "details"
	default:
		return "counts"
	}
}

// Rules are those of one address. They are read only once in use.
type Rules struct {
	// Token allows everything; without one no request may act. It travels in
	// the Authorization header alone: a URL ends in logs and histories, and a
	// cookie would be sent along by any page that makes the browser ask.
	Token string
	// Loopback says that the address can be reached from this machine alone.
	// The address that is listened on decides, not the one that a request came
	// from: kubectl port-forward and proxies in the pod come from loopback.
	Loopback bool
	// Hosts are names that the address answers to besides its own.
	Hosts []string
}

// Level is what the request may do. ok is false for a token that is wrong: it
// is refused rather than shown less, so that a typing error is noticed.
func (r Rules) Level(req *http.Request) (level Level, ok bool) {
	given := req.Header.Values("Authorization")
	if len(given) == 0 {
		if r.Loopback {
			return Details, true
		}
		return Counts, true
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	if len(given) > 1 || r.Token == "" || !strings.EqualFold(scheme, "Bearer") || !same(strings.TrimSpace(token), r.Token) {
		return Counts, false
	}
	return Admin, true
}

// same compares in a time that tells neither how much of the token is right nor
// how long it is.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Answers reports whether the address answers to the name in a Host header. A
// page of a stranger whose name was made to lead here (DNS rebinding) has that
// stranger's name in it. On loopback only this machine's own names do. Elsewhere
// any name does unless Hosts lists some: what is shown without the token is
// counts, and a rebound page has no token. Addresses cannot be rebound.
func (r Rules) Answers(host string) bool {
	name := hostname(host)
	switch {
	case name == "localhost", name == "127.0.0.1", name == "::1":
		return true
	case slices.ContainsFunc(r.Hosts, func(h string) bool { return hostname(h) == name }):
		return name != ""
	case r.Loopback:
		return false
	case len(r.Hosts) == 0:
		return true
	default:
		_, err := netip.ParseAddr(name)
		return err == nil
	}
}

// hostname is a Host header without its port, brackets, case and final dot.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// Guard passes on what comes under a name that the address answers to.
func (r Rules) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.Answers(req.Host) {
			Refuse(w, http.StatusMisdirectedRequest, "this address does not answer to that host name; list it in SIDECAR_HTTP_HOSTS if it should")
			return
		}
		next.ServeHTTP(w, req)
	})
}

// Unauthorized answers a request whose token is missing or wrong.
func Unauthorized(w http.ResponseWriter, message string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="sidecar"`)
	Refuse(w, http.StatusUnauthorized, message)
}

// Refuse answers with a status and one line of why, as JSON.
func Refuse(w http.ResponseWriter, status int, message string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message}) // the client may be gone
}
