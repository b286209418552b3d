package manifest

import (
	"slices"
	"strings"
)

// The chart has values of its own for these variables, each with how it is written in YAML.
var (
	chartRedis = []chartValue{
		{"REDIS_URL", "url", quote},
		{"REDIS_HOST", "host", quote},
		{"REDIS_PORT", "port", number},
		{"REDIS_DB", "db", number},
		{"REDIS_USERNAME", "username", quote},
		{"REDIS_KEY_PREFIX", "keyPrefix", quote},
		{"REDIS_ADDRS", "addrs", list},
		{"REDIS_SENTINEL_MASTER", "sentinelMaster", quote},
		{"REDIS_SENTINEL_USERNAME", "sentinelUsername", quote},
	}
	chartTLS = []chartValue{
		{"REDIS_TLS", "enabled", boolean}, {"REDIS_TLS_SERVER_NAME", "serverName", quote}, {"REDIS_TLS_INSECURE", "insecure", boolean},
	}
	// chartOthers are set by values outside these two.
	chartOthers = []string{"SIDECAR_GRAFLOW"}
)

// chartValue is a value of the Helm chart that sets a variable.
type chartValue struct {
	variable, name string
	yaml           func(string) string
}

// ChartRedis are the values of the chart's redis, as YAML.
func (p Params) ChartRedis() []Variable { return p.chartValues(chartRedis) }

// ChartTLS are those of redis.tls.
func (p Params) ChartTLS() []Variable { return p.chartValues(chartTLS) }

// ChartSettings are the variables that go into the chart's settings.
func (p Params) ChartSettings() []Variable {
	return slices.DeleteFunc(p.Others(), func(v Variable) bool {
		is := func(c chartValue) bool { return c.variable == v.Name }
		return slices.ContainsFunc(chartRedis, is) || slices.ContainsFunc(chartTLS, is) || slices.Contains(chartOthers, v.Name)
	})
}

func (p Params) chartValues(values []chartValue) (all []Variable) {
	for _, v := range p.Variables {
		for _, c := range values {
			if c.variable == v.Name {
				all = append(all, Variable{c.name, c.yaml(v.Value)})
			}
		}
	}
	return all
}

// number is what the sidecar takes as one, without the underscores that it allows.
func number(text string) string { return strings.ReplaceAll(text, "_", "") }

// boolean is a word for yes or no that the sidecar takes, in YAML's words.
func boolean(text string) string {
	if slices.Contains([]string{"1", "true", "yes", "on", "t", "y"}, strings.ToLower(text)) {
		return "true"
	}
	return "false"
}

func list(text string) string {
	var all []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			all = append(all, item)
		}
	}
	return "[" + words(all) + "]"
}

// image is a reference to one in its parts.
type image struct{ Repository, Tag, Digest string }

// splitImage takes a reference apart; the tag is latest where none is said. A colon before
// a slash belongs to a port.
func splitImage(reference string) image {
	name, digest, _ := strings.Cut(reference, "@")
	i := strings.LastIndex(name, ":")
	if i < 0 || strings.Contains(name[i:], "/") {
		return image{name, "latest", digest}
	}
	return image{name[:i], name[i+1:], digest}
}
