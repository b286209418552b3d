package conformance

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/graflow/graflow-sidecar/protocol"
)

// matches says whether a response is what one of the alternatives asks for; else
// why not, in words.
func matches(m *protocol.Message, alternatives string) (why string) {
	for what := range strings.SplitSeq(alternatives, " or ") {
		if why = matchesOne(m, strings.TrimSpace(what)); why == "" {
			return ""
		}
	}
	return why
}

func matchesOne(m *protocol.Message, what string) string {
	if code, ok := strings.CutPrefix(what, "error "); ok {
		n, err := strconv.Atoi(code)
		switch {
		case err != nil:
			return err.Error()
		case m.Error == nil:
			return "a result where an error was due: " + clip(m.Result)
		case int(m.Error.Code) != n:
			return fmt.Sprintf("error %d: %s", int(m.Error.Code), clip(m.Error.Message))
		}
		return ""
	}
	if m.Error != nil {
		return fmt.Sprintf("error %d: %s", int(m.Error.Code), clip(m.Error.Message))
	}
	if strings.HasPrefix(what, "{") {
		var want, got any
		if err := json.Unmarshal([]byte(what), &want); err != nil {
			return err.Error()
		}
		if err := json.Unmarshal(m.Result, &got); err != nil {
			return err.Error()
		}
		return compare("result", want, got)
	}
	r, err := protocol.DecodeRunResult(m.Result)
	switch {
	case err != nil && what == "outcome":
		return "" // always/results tells what is wrong with it
	case err != nil:
		return err.Error()
	case what == "outcome",
		what == "succeeded" && r.Err == nil,
		what == "failed" && r.Err != nil && !r.Err.Retryable,
		what == "retryable" && r.Err != nil && r.Err.Retryable,
		what == "valueText" && r.ValueText != "":
		return ""
	default:
		return clip(m.Result)
	}
}

// compare checks got against a pattern: the members of an object must be there,
// others may, and a string that begins with $ stands for a kind of value.
func compare(path string, want, got any) string {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return path + " is no object"
		}
		for name, w := range want {
			g, there := object[name]
			if !there {
				return path + " has no member " + name
			}
			if why := compare(path+"."+name, w, g); why != "" {
				return why
			}
		}
		return ""
	case string:
		if kind, ok := strings.CutPrefix(want, "$"); ok {
			if !isKind(kind, got) {
				return fmt.Sprintf("%s is %v, no %s", path, got, kind)
			}
			return ""
		}
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s is %v, not %v", path, got, want)
	}
	return ""
}

func isKind(kind string, v any) bool {
	switch kind {
	case "string":
		_, ok := v.(string)
		return ok
	case "object":
		_, ok := v.(map[string]any)
		return ok
	default: // a whole number in a range, such as 1..99 or 1..
		from, to, _ := strings.Cut(kind, "..")
		least, err := strconv.ParseFloat(from, 64)
		most := math.Inf(1)
		if to != "" {
			most, _ = strconv.ParseFloat(to, 64)
		}
		n, ok := v.(float64)
		return ok && err == nil && n >= least && n <= most && n == math.Trunc(n)
	}
}
