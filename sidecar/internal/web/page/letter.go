package page

import (
	"context"
	"encoding/json"
	"net/http"
	"unicode/utf8"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
)

// maxRecord is how much of a dead letter's record is shown.
const maxRecord = 64 << 10

// whole is a dead letter with its record as far as that is text.
type whole struct {
	fleet.DeadLetter
	Record string `json:"record"`
}

// letter gives one dead letter with its error, its worker's last lines and its
// record: too much to send all of them to every viewer all the time.
func (p *Page) letter(w http.ResponseWriter, r *http.Request) {
	level, ok := p.reading(w, r)
	if !ok {
		return
	}
	if level < httpauth.Details {
		httpauth.Unauthorized(w, "records and errors are shown with the admin token only")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actionPatience)
	defer cancel()
	found, there, err := p.o.Source.DeadLetter(ctx, r.URL.Query().Get("id"))
	switch {
	case err != nil:
		httpauth.Refuse(w, http.StatusServiceUnavailable, "Redis: "+p.o.Why(err))
	case !there:
		httpauth.Refuse(w, http.StatusNotFound, "there is no such dead letter (any more)")
	default:
		answer(w, http.StatusOK, whole{found, text(found.Raw)})
	}
}

// text is a record for people: it may be no JSON and no text.
func text(raw []byte) string {
	// The first bytes of a long record may end within a character.
	if cut := len(raw) - utf8.UTFMax; len(raw) == maxRecord && !utf8.Valid(raw[cut:]) {
		for last := len(raw) - 1; last > cut; last-- {
			if utf8.RuneStart(raw[last]) {
				raw = raw[:last]
				break
			}
		}
	}
	if !utf8.Valid(raw) {
		return "(not UTF-8)\n" + head(string([]rune(string(raw))), maxRecord)
	}
	return head(string(raw), maxRecord)
}

func answer(w http.ResponseWriter, status int, content any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(content) // the client may be gone
}
