package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// chartValues are the values of the Helm chart that set a variable; it is refused in the
// map of other settings, with the name of the value.
var chartValues = map[string]string{
	"MAX_CONCURRENT_TASKS": "concurrency", "SIDECAR_HTTP_ADDR": "http.port", "SIDECAR_SHUTDOWN_TIMEOUT": "shutdownTimeoutSeconds",
	"SIDECAR_START_TIMEOUT": "startTimeoutSeconds", "SIDECAR_GRAFLOW": "worker.graflow", "SIDECAR_WORKER_SOCKET": "pattern",
	"SIDECAR_ADMIN_TOKEN": "adminToken", "SIDECAR_ADMIN_TOKEN_FILE": "adminToken",
	"REDIS_HOST": "redis.host", "REDIS_PORT": "redis.port", "REDIS_DB": "redis.db", "REDIS_KEY_PREFIX": "redis.keyPrefix",
	"REDIS_URL": "redis.url", "REDIS_USERNAME": "redis.username", "REDIS_PASSWORD": "redis.existingSecret",
	"REDIS_PASSWORD_FILE": "redis.existingSecret", "REDIS_TLS": "redis.tls.enabled", "REDIS_TLS_CA_FILE": "redis.tls.ca",
	"REDIS_TLS_CERT_FILE": "redis.tls.clientCert", "REDIS_TLS_KEY_FILE": "redis.tls.clientCert",
	"REDIS_TLS_SERVER_NAME": "redis.tls.serverName", "REDIS_TLS_INSECURE": "redis.tls.insecure", "REDIS_ADDRS": "redis.addrs",
	"REDIS_SENTINEL_MASTER": "redis.sentinelMaster", "REDIS_SENTINEL_USERNAME": "redis.sentinelUsername",
	"REDIS_SENTINEL_PASSWORD": "redis.sentinelPasswordKey",
}

// The schema of the Helm chart's values has the settings of this version and no others.
func TestChartSchemaDocument(t *testing.T) {
	setEnvironment(t, nil)
	path := filepath.Join("..", "..", "deploy", "chart", "values.schema.json")
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(got, &whole); err != nil {
		t.Fatal(err)
	}
	whole["properties"].(map[string]any)["settings"].(map[string]any)["properties"] = chartSettings()
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(whole); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("deploy/chart/values.schema.json is stale; run: go test ./sidecar/config -run Document -update")
	}
}

var wholeNumber = regexp.MustCompile(`^a whole number from (\d+) to (\d+)`)

func chartSettings() map[string]any {
	vs := newVariables()
	vs.describe()
	all := map[string]any{}
	for _, v := range vs.all {
		rule := map[string]any{"description": v.help, "type": []string{"string", "number"}}
		switch {
		case v.env == "WORKER_ID":
			rule = map[string]any{"const": "(the pod's name; leave it out)"}
		case chartValues[v.env] != "":
			rule = map[string]any{"const": "(set by the value " + chartValues[v.env] + "; leave it out here)"}
		case strings.HasPrefix(v.accepts, "true or false"):
			rule["type"], rule["pattern"] = []string{"boolean", "string"}, "^(true|false|1|0|yes|no|on|off)$"
		case wholeNumber.MatchString(v.accepts):
			bounds := wholeNumber.FindStringSubmatch(v.accepts)
			rule["type"], rule["pattern"] = []string{"integer", "string"}, "^[0-9_]+$"
			rule["minimum"], _ = strconv.Atoi(bounds[1])
			rule["maximum"], _ = strconv.Atoi(bounds[2])
		}
		all[v.env] = rule
	}
	return all
}

// No secret and no file of one may be written into the values as a setting.
func TestChartTakesNoSecretAsSetting(t *testing.T) {
	vs := newVariables()
	for _, v := range vs.all {
		if v.secret && chartValues[v.env] == "" {
			t.Errorf("%s is a secret, and no value of the chart is for it", v.env)
		}
	}
}
