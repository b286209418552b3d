package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/strvals"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const chartDir = "../../deploy/chart"

// Helm says of every symbolic link that it follows it.
func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// kubernetes is what the chart is rendered for: the oldest that it takes.
var kubernetes = chartutil.KubeVersion{Version: "v1.29.0", Major: "1", Minor: "29"}

// sidecarChart is the chart as it lies in the repository.
func sidecarChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// values reads values as a file of them has them.
func valuesOf(t *testing.T, text string) chartutil.Values {
	t.Helper()
	v, err := chartutil.ReadValues([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return v
}

// render is what `helm template` does: the defaults, the schema, the templates.
func render(c *chart.Chart, values chartutil.Values) (map[string]string, error) {
	capabilities := *chartutil.DefaultCapabilities
	capabilities.KubeVersion = kubernetes
	options := chartutil.ReleaseOptions{Name: "r", Namespace: "ns", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, options, &capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// objects are those of a release, by kind and name, each checked strictly.
type objects map[string][]byte

func release(t *testing.T, values string) objects {
	t.Helper()
	return releaseOf(t, sidecarChart(t), valuesOf(t, values))
}

func releaseOf(t *testing.T, c *chart.Chart, values chartutil.Values) objects {
	t.Helper()
	files, err := render(c, values)
	if err != nil {
		t.Fatal(err)
	}
	all := objects{}
	for path, text := range files {
		if strings.HasSuffix(path, ".txt") {
			continue
		}
		for _, doc := range documents([]byte(text)) {
			var head struct {
				Kind     string
				Metadata struct{ Name, Namespace string }
			}
			if err := yaml.Unmarshal(doc, &head); err != nil {
				t.Fatalf("%s: %v\n%s", path, err, doc)
			}
			if head.Metadata.Namespace != "ns" {
				t.Errorf("%s: %s is in the namespace %q", path, head.Kind, head.Metadata.Namespace)
			}
			check(t, doc)
			id := head.Kind + "/" + head.Metadata.Name
			if all[id] != nil {
				t.Errorf("there are two of %s", id)
			}
			all[id] = doc
		}
	}
	return all
}

// documents are the objects of a YAML file, without those that are comments only.
func documents(text []byte) (all [][]byte) {
	for _, doc := range regexp.MustCompile(`(?m)^---\n`).Split(string(text), -1) {
		var value any
		if err := yaml.Unmarshal([]byte(doc), &value); err != nil || value != nil {
			all = append(all, []byte(doc))
		}
	}
	return all
}

// get decodes an object that has to be there.
func get[T any](t *testing.T, all objects, id string) T {
	t.Helper()
	var object T
	if all[id] == nil {
		t.Fatalf("there is no %s, but %v", id, slices.Sorted(maps.Keys(all)))
	}
	if err := yaml.UnmarshalStrict(all[id], &object); err != nil {
		t.Fatal(err)
	}
	return object
}

const named = "r-graflow-sidecar" // of a release r

func deployment(t *testing.T, values string) appsv1.Deployment {
	t.Helper()
	return get[appsv1.Deployment](t, release(t, values), "Deployment/"+named)
}

// probedContainer is the sidecar's.
func probedContainer(t *testing.T, pod corev1.PodSpec) corev1.Container {
	t.Helper()
	for _, c := range append(slices.Clone(pod.InitContainers), pod.Containers...) {
		if c.StartupProbe != nil {
			return c
		}
	}
	t.Fatal("no container is probed")
	return corev1.Container{}
}

func env(c corev1.Container) map[string]string {
	all := map[string]string{}
	for _, e := range c.Env {
		all[e.Name] = e.Value
	}
	return all
}

// What `helm lint --strict` says: nothing but that an icon would be nice.
func TestChartLint(t *testing.T) {
	for _, m := range lint.AllWithKubeVersion(chartDir, nil, "ns", &kubernetes).Messages {
		if m.Severity > support.InfoSev {
			t.Error(m)
		}
	}
}

// The versions are those of the binary.
func TestChartVersion(t *testing.T) {
	text, err := os.ReadFile("../../sidecar/internal/version/version.go")
	if err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`(?m)^var Number = "(.*)"`).FindSubmatch(text)
	if m := sidecarChart(t).Metadata; number == nil || m.Version != string(number[1]) || m.AppVersion != m.Version {
		t.Errorf("the chart is %s and for %s, the binary %q", m.Version, m.AppVersion, number)
	}
}

// features are the values that switch something, with what they may be. The first of each
// is the default.
var features = [][]string{
	{"pattern: entrypoint", "pattern: native-sidecar"},
	{"worker: {graflow: true}", `worker: {graflow: false, command: [/opt/w, "a $HOME $(X) $$"]}`},
	{"autoscaling: {type: none}", "autoscaling: {type: hpa}", "autoscaling: {type: keda, minReplicas: 0}"},
	{
		"redis: {}", "redis: {existingSecret: s}", "redis: {password: p$, username: u, db: 3, port: 6380}",
		"redis: {url: 'rediss://h:6390/2', tls: {existingSecret: t, ca: true, clientCert: true}}",
		"redis: {addrs: ['a:1', 'b:1'], sentinelMaster: m, existingSecret: s, sentinelPasswordKey: sp}", "redis: {addrs: ['a:1', 'b:2'], tls: {enabled: true}}",
	},
	{"adminToken: {}", "adminToken: {existingSecret: s}", "adminToken: {value: tok-en}"},
	{"http: {port: 8000}", "http: {port: 9000}"},
	{"service: {enabled: false}", "service: {enabled: true, annotations: {a: b}}"},
	{"deployment: {create: true}", "deployment: {create: false, existing: {name: theirs, podLabels: {app: theirs}}}"},
	{"serviceAccount: {create: true}", "serviceAccount: {create: false, name: theirs}", "serviceAccount: {create: false}"},
	{"podDisruptionBudget: {enabled: true}", "podDisruptionBudget: {enabled: false}", "podDisruptionBudget: {maxUnavailable: 1}"},
	{"podMonitor: {enabled: false}", "podMonitor: {enabled: true, labels: {release: p}, relabelings: [{action: labelmap, regex: x}]}"},
	{"prometheusRule: {enabled: false}", "prometheusRule: {enabled: true, labels: {release: p}}"},
	{"dashboard: {enabled: false}", "dashboard: {enabled: true, annotations: {folder: x}}"},
	{"networkPolicy: {enabled: false}", "networkPolicy: {enabled: true}", `networkPolicy: {enabled: true, ingressFrom: [{podSelector: {}}], redisTo: [{ipBlock: {cidr: 10.0.0.0/8}}], extraEgress: [{ports: [{port: 443}]}]}`},
	{"tests: {enabled: true}", "tests: {enabled: false}"},
	{"settings: {}", `settings: {SIDECAR_TASK_TIMEOUT: 10m, SIDECAR_SPOOL_DIR: "/tmp/50% $x", SIDECAR_PREFORK: false, SIDECAR_MAX_ATTEMPTS: 5, SIDECAR_START_RETRIES: 0}`},
	{
		"tolerations: []", `tolerations: [{key: a, operator: Exists}]
nodeSelector: {a: b}
affinity: {nodeAffinity: {}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
priorityClassName: high
imagePullSecrets: [{name: pull}]
commonLabels: {team: a}
commonAnnotations: {a: b}
podLabels: {c: d}
podAnnotations: {e: f}
terminationGracePeriodSeconds: 300
extraInitContainers: [{name: first, image: x, resources: {requests: {memory: 1Mi}, limits: {memory: 1Mi}}, securityContext: &sc {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}}]
extraContainers: [{name: beside, image: x, resources: {requests: {memory: 1Mi}, limits: {memory: 1Mi}}, securityContext: *sc}]
extraVolumes: [{name: spool, emptyDir: {}}]`,
	},
}

// merged puts values together, where one feature is changed by two texts.
func merged(t *testing.T, texts ...string) chartutil.Values {
	all := chartutil.Values{}
	for _, text := range texts {
		all = chartutil.CoalesceTables(valuesOf(t, text), all)
	}
	return all
}

// Every pair of values of two features is rendered, and every object of it decoded strictly.
func TestChartMatrix(t *testing.T) {
	c := sidecarChart(t)
	seen := map[string]int{}
	sets := 0
	try := func(texts ...string) {
		sets++
		t.Run(fmt.Sprint(sets), func(t *testing.T) {
			for id := range releaseOf(t, c, merged(t, texts...)) {
				kind, _, _ := strings.Cut(id, "/")
				seen[kind]++
			}
			if t.Failed() {
				t.Logf("the values are\n%s", strings.Join(texts, "\n"))
			}
		})
	}
	try()
	for i, one := range features {
		for _, a := range one[1:] {
			try(a)
			for _, other := range features[i+1:] {
				for _, b := range other[1:] {
					try(a, b)
				}
			}
		}
	}
	for last := range 2 { // everything at once
		var all []string
		for _, one := range features {
			if last == 1 || !strings.Contains(one[1], "create: false") {
				all = append(all, one[len(one)-1])
			} else {
				all = append(all, one[0])
			}
		}
		try(all...)
	}
	t.Logf("%d sets of values; %v", sets, seen)
	for _, kind := range []string{
		"Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication", "Secret", "ConfigMap",
		"Service", "ServiceAccount", "NetworkPolicy", "PodMonitor", "PrometheusRule", "Pod",
	} {
		if seen[kind] == 0 {
			t.Errorf("no %s was rendered", kind)
		}
	}
}

// What is wrong is refused in words that name the value.
func TestChartRefuses(t *testing.T) {
	c := sidecarChart(t)
	for values, want := range map[string]string{
		"typo: 1":                                                             "'typo' not allowed",
		"worker: {imag: x}":                                                   "'imag' not allowed",
		"pattern: sidecar":                                                    "'entrypoint', 'native-sidecar'",
		"concurrency: many":                                                   "/concurrency",
		"concurrency: 0":                                                      "/concurrency",
		"http: {port: 70000}":                                                 "/http/port",
		"settings: {SIDECAR_CONCURRENCY: 8}":                                  "'SIDECAR_CONCURRENCY' not allowed",
		"settings: {SIDECAR_MAX_ATTEMPTS: 0}":                                 "minimum: got 0, want 1",
		"settings: {SIDECAR_TASK_TIMEOUT: off}":                               "got boolean, want ",
		"settings: {SIDECAR_HTTP_ADDR: ':9000'}":                              "set by the value http.port",
		"settings: {REDIS_PASSWORD: x}":                                       "set by the value redis.existingSecret",
		"redis: {url: 'redis://u:p@h'}":                                       "/redis/url",
		"redis: {existingSecret: a, password: b}":                             "redis.existingSecret and redis.password exclude each other",
		"redis: {sentinelMaster: m}":                                          "redis.sentinelMaster needs redis.addrs",
		"redis: {tls: {ca: true}}":                                            "redis.tls.existingSecret, which is not set",
		"redis: {sentinelPasswordKey: a}":                                     "redis.existingSecret, which is not set",
		"redis: {password: b, passwordKey: ''}":                               "redis.password needs redis.passwordKey",
		"adminToken: {existingSecret: a, value: b}":                           "exclude each other",
		"worker: {command: [w]}":                                              "worker.graflow and worker.command exclude each other",
		"worker: {graflow: false}":                                            "no worker: set worker.command",
		"{pattern: native-sidecar, worker: {sidecarPath: /x}}":                "worker.sidecarPath is for pattern entrypoint",
		"{pattern: native-sidecar, settings: {SIDECAR_MODE: exec}}":           "SIDECAR_MODE=exec does not go with pattern native-sidecar",
		"worker: {sidecarPath: sidecar}":                                      "/worker/sidecarPath",
		"terminationGracePeriodSeconds: 29":                                   "a stop takes up to 30 s",
		"{pattern: native-sidecar, terminationGracePeriodSeconds: 54}":        "a stop takes up to 55 s",
		"deployment: {create: false}":                                         "/deployment/existing/name",
		"autoscaling: {type: both}":                                           "'none', 'hpa', 'keda'",
		"autoscaling: {type: hpa, minReplicas: 0}":                            "an HPA has at least 1 replica",
		"autoscaling: {type: hpa, minReplicas: 3, maxReplicas: 2}":            "minReplicas is 3 and maxReplicas 2",
		"{autoscaling: {type: keda}, redis: {host: /run/redis.sock}}":         "KEDA has to reach Redis over the network",
		"{autoscaling: {type: keda}, redis: {url: 'unix:///run/redis.sock'}}": "KEDA has to reach Redis over the network",
		"podDisruptionBudget: {maxUnavailable: a few}":                        "/podDisruptionBudget/maxUnavailable",
		"fullnameOverride: Upper":                                             "/fullnameOverride",
	} {
		_, err := render(c, valuesOf(t, values))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %q", values, err, want)
		}
	}
}

// The chart and `sidecar manifest` make the same objects of one configuration.
func TestChartIsTheManifest(t *testing.T) {
	for name, printed := range map[string]func(kind string) string{
		"plain": func(kind string) string {
			return "../../deploy/kubernetes/" + map[string]string{
				"k8s": "entrypoint/deployment", "native-sidecar": "native-sidecar/deployment", "hpa": "hpa/hpa", "keda": "keda/keda", "values": "values",
			}[kind] + ".yaml"
		},
		"rich": func(kind string) string { return "../../sidecar/internal/cli/testdata/manifest/" + kind + "-rich.yaml" },
		"sentinel": func(kind string) string {
			return "../../sidecar/internal/cli/testdata/manifest/" + kind + "-sentinel.yaml"
		},
	} {
		given, err := os.ReadFile(printed("values"))
		if err != nil {
			t.Fatal(err)
		}
		for kind, more := range map[string]string{
			"k8s": "{}", "native-sidecar": "pattern: native-sidecar", "hpa": "autoscaling: {type: hpa}", "keda": "autoscaling: {type: keda}",
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				all := releaseOf(t, sidecarChart(t), merged(t, string(given), more))
				text, err := os.ReadFile(printed(kind))
				if err != nil {
					t.Fatal(err)
				}
				docs := documents(text)
				if len(docs) == 0 {
					t.Fatal("nothing is printed")
				}
				for _, doc := range docs {
					var head struct {
						Kind     string
						Metadata struct{ Name string }
					}
					if err := yaml.Unmarshal(doc, &head); err != nil {
						t.Fatal(err)
					}
					got := all[head.Kind+"/"+head.Metadata.Name]
					if a, b := plainObject(t, head.Kind, got), plainObject(t, head.Kind, doc); a != b {
						t.Errorf("the %s differs. Only in the chart:\n%s\nOnly in what sidecar manifest prints:\n%s", head.Kind, without(a, b), without(b, a))
					}
				}
			})
		}
	}
}

// without are the lines of one text that another does not have.
func without(one, other string) string {
	have := strings.Split(other, "\n")
	return strings.Join(slices.DeleteFunc(strings.Split(one, "\n"), func(line string) bool { return slices.Contains(have, line) }), "\n")
}

// plainObject is an object as a text to compare: without what a chart adds to each, and
// with lists of names in their order.
func plainObject(t *testing.T, kind string, doc []byte) string {
	t.Helper()
	if kind == "Deployment" {
		var d appsv1.Deployment
		if err := yaml.UnmarshalStrict(doc, &d); err != nil {
			t.Fatal(err)
		}
		pod := &d.Spec.Template.Spec
		d.Spec.RevisionHistoryLimit = nil // Kubernetes' default is said
		for _, list := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
			for i := range list {
				slices.SortFunc(list[i].Env, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
				slices.SortFunc(list[i].VolumeMounts, func(a, b corev1.VolumeMount) int { return strings.Compare(a.Name, b.Name) })
			}
		}
		slices.SortFunc(pod.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
		doc, _ = yaml.Marshal(d)
	}
	var value map[string]any
	if err := yaml.Unmarshal(doc, &value); err != nil {
		t.Fatal(err)
	}
	metadata, _ := value["metadata"].(map[string]any)
	delete(metadata, "namespace")
	if kind != "Deployment" {
		delete(metadata, "labels")
	}
	unlabel(value)
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), `namespace=\"ns\",`, "")
}

// unlabel removes the labels that only a release has.
func unlabel(value any) {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range []string{"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"} {
			delete(v, name)
		}
		for _, item := range v {
			unlabel(item)
		}
	case []any:
		for _, item := range v {
			unlabel(item)
		}
	}
}

// One port is used by all that ask or listen.
func TestChartPort(t *testing.T) {
	for _, pattern := range []string{"entrypoint", "native-sidecar"} {
		all := release(t, "{pattern: "+pattern+", http: {port: 9123}, service: {enabled: true}, podMonitor: {enabled: true}, networkPolicy: {enabled: true}}")
		d := get[appsv1.Deployment](t, all, "Deployment/"+named)
		c := probedContainer(t, d.Spec.Template.Spec)
		s := get[corev1.Service](t, all, "Service/"+named).Spec.Ports[0]
		m := get[monitoringv1.PodMonitor](t, all, "PodMonitor/"+named).Spec.PodMetricsEndpoints[0]
		n := get[networkingv1.NetworkPolicy](t, all, "NetworkPolicy/"+named).Spec.Ingress[0].Ports[0]
		if c.Ports[0].ContainerPort != 9123 || env(c)["SIDECAR_HTTP_ADDR"] != ":9123" || s.Port != 9123 || s.TargetPort.IntValue() != 9123 || *m.PortNumber != 9123 || n.Port.IntValue() != 9123 {
			t.Errorf("%s: %v, %v, %v, %v, %v", pattern, c.Ports, env(c), s, m, n)
		}
		if a := d.Spec.Template.Annotations; a["prometheus.io/scrape"] != "" {
			t.Errorf("%s: a pod that a PodMonitor is for is scraped twice: %v", pattern, a)
		}
		if a := deployment(t, "http: {port: 9123}").Spec.Template.Annotations; a["prometheus.io/port"] != "9123" {
			t.Errorf("annotations %v", a)
		}
	}
}

// The numbers of a pod follow from its budgets.
func TestChartBudgets(t *testing.T) {
	for values, want := range map[string]struct {
		grace    int64
		failures int32
		memory   string
	}{
		"{}":                      {30, 270, "1088Mi"},
		"pattern: native-sidecar": {55, 270, "1088Mi"},
		"{shutdownTimeoutSeconds: 90, concurrency: 8}":                                                                {95, 270, "2112Mi"},
		"{shutdownTimeoutSeconds: 0.5, startTimeoutSeconds: 30, concurrency: 1}":                                      {6, 150, "320Mi"},
		"{startTimeoutSeconds: 600, settings: {SIDECAR_START_RETRIES: 1}}":                                            {30, 630, "1088Mi"},
		"{startTimeoutSeconds: 600, settings: {SIDECAR_START_RETRIES: 1000}}":                                         {30, 1230, "1088Mi"},
		"{terminationGracePeriodSeconds: 100, worker: {resources: {limits: {memory: 1Gi}, requests: {memory: 1Gi}}}}": {100, 270, "1Gi"},
	} {
		pod := deployment(t, values).Spec.Template.Spec
		c := probedContainer(t, pod)
		memory := pod.Containers[0].Resources.Limits.Memory().String()
		if *pod.TerminationGracePeriodSeconds != want.grace || c.StartupProbe.FailureThreshold != want.failures || memory != want.memory {
			t.Errorf("%s: a grace period of %d s, %d failures, %s; want %v", values, *pod.TerminationGracePeriodSeconds, c.StartupProbe.FailureThreshold, memory, want)
		}
	}
}

// The worker's words and values arrive as they are given.
func TestChartDollars(t *testing.T) {
	for _, pattern := range []string{"entrypoint", "native-sidecar"} {
		pod := deployment(t, `{pattern: `+pattern+`, worker: {graflow: false, command: [w, "$(WORKER_ID) $$ $x"]}, settings: {SIDECAR_SPOOL_DIR: "/a$(B)"}}`).Spec.Template.Spec
		words := append(slices.Clone(pod.Containers[0].Command), pod.Containers[0].Args...)
		if got := words[len(words)-1]; got != "$$(WORKER_ID) $$$$ $$x" {
			t.Errorf("%s: the last word is %q", pattern, got)
		}
		if got := env(probedContainer(t, pod))["SIDECAR_SPOOL_DIR"]; got != "/a$$(B)" {
			t.Errorf("%s: the setting is %q", pattern, got)
		}
	}
}

// Numbers and switches arrive as the sidecar reads them, from a file and from --set.
func TestChartSettings(t *testing.T) {
	text := "settings: {SIDECAR_MAX_UNREPORTED_BYTES: 67108864, SIDECAR_MAX_CHILD_RSS: 1073741824, SIDECAR_RETRY_JITTER: 0.25, SIDECAR_PREFORK: false, SIDECAR_MAX_LENT: 0, LOG_LEVEL: DEBUG}"
	set, err := strvals.Parse("settings.SIDECAR_MAX_UNREPORTED_BYTES=67108864,settings.SIDECAR_MAX_CHILD_RSS=1073741824,settings.SIDECAR_RETRY_JITTER=0.25,settings.SIDECAR_PREFORK=false,settings.SIDECAR_MAX_LENT=0,settings.LOG_LEVEL=DEBUG")
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string]chartutil.Values{"file": valuesOf(t, text), "--set": set} {
		d := get[appsv1.Deployment](t, releaseOf(t, sidecarChart(t), values), "Deployment/"+named)
		got := env(probedContainer(t, d.Spec.Template.Spec))
		for variable, want := range map[string]string{
			"SIDECAR_MAX_UNREPORTED_BYTES": "67108864", "SIDECAR_MAX_CHILD_RSS": "1073741824", "SIDECAR_RETRY_JITTER": "0.25",
			"SIDECAR_PREFORK": "false", "SIDECAR_MAX_LENT": "0", "LOG_LEVEL": "DEBUG",
		} {
			if got[variable] != want {
				t.Errorf("%s: %s is %q, want %q", name, variable, got[variable], want)
			}
		}
	}
}

// With a native sidecar the worker's container has neither credentials nor an address of Redis.
func TestChartKeepsCredentialsFromTheWorker(t *testing.T) {
	pod := deployment(t, "{pattern: native-sidecar, redis: {existingSecret: s, tls: {existingSecret: t, ca: true, clientCert: true}}, adminToken: {existingSecret: a}}").Spec.Template.Spec
	w := pod.Containers[0]
	for name := range env(w) {
		if strings.HasPrefix(name, "REDIS") || strings.Contains(name, "TOKEN") {
			t.Errorf("the worker has %s", name)
		}
	}
	for _, m := range w.VolumeMounts {
		if strings.HasPrefix(m.MountPath, "/run/secrets") {
			t.Errorf("the worker has %s", m.MountPath)
		}
	}
	if got := len(probedContainer(t, pod).VolumeMounts); got != 5 {
		t.Errorf("the sidecar has %d mounts", got)
	}
}

// Secrets of the chart's own have what was given, and no other object does.
func TestChartSecrets(t *testing.T) {
	all := release(t, "{redis: {password: planted-p, username: u}, adminToken: {value: planted-t}}")
	for id, doc := range all {
		if bytes.Contains(doc, []byte("planted")) {
			t.Errorf("%s has a secret in the open", id)
		}
	}
	if got := get[corev1.Secret](t, all, "Secret/"+named+"-redis").Data["password"]; string(got) != "planted-p" {
		t.Errorf("the password is %q", got)
	}
	if got := get[corev1.Secret](t, all, "Secret/"+named+"-admin").Data["token"]; string(got) != "planted-t" {
		t.Errorf("the token is %q", got)
	}
	one := deployment(t, "adminToken: {value: a}").Spec.Template.Annotations["checksum/admin-token"]
	if two := deployment(t, "adminToken: {value: b}").Spec.Template.Annotations["checksum/admin-token"]; one == two || one == "" {
		t.Errorf("pods are not replaced when the token changes: %q, %q", one, two)
	}
	if all := release(t, "{redis: {existingSecret: s}, adminToken: {existingSecret: s}}"); all["Secret/"+named+"-redis"] != nil || all["Secret/"+named+"-admin"] != nil {
		t.Error("a Secret is made beside the one that is there")
	}
}

// Around a Deployment that is there, everything selects its pods.
func TestChartAroundADeployment(t *testing.T) {
	all := release(t, `{deployment: {create: false, existing: {name: theirs, podLabels: {app: theirs}}}, autoscaling: {type: keda},
podMonitor: {enabled: true}, networkPolicy: {enabled: true}, service: {enabled: true}}`)
	for id := range all {
		if strings.HasPrefix(id, "Deployment/") {
			t.Errorf("there is %s", id)
		}
	}
	labels := map[string]string{"app": "theirs"}
	for what, got := range map[string]map[string]string{
		"budget":  get[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget/"+named).Spec.Selector.MatchLabels,
		"monitor": get[monitoringv1.PodMonitor](t, all, "PodMonitor/"+named).Spec.Selector.MatchLabels,
		"policy":  get[networkingv1.NetworkPolicy](t, all, "NetworkPolicy/"+named).Spec.PodSelector.MatchLabels,
		"service": get[corev1.Service](t, all, "Service/"+named).Spec.Selector,
	} {
		if !maps.Equal(got, labels) {
			t.Errorf("the %s selects %v", what, got)
		}
	}
	if queue := string(release(t, "{autoscaling: {type: keda}, settings: {SIDECAR_QUEUE_KEY: my jobs}}")["ScaledObject/"+named]); !strings.Contains(queue, `listName: "my jobs"`) {
		t.Errorf("KEDA looks at another list:\n%s", queue)
	}
	scaled := string(all["ScaledObject/"+named])
	if !strings.Contains(scaled, "scaleTargetRef: {name: theirs}") || !strings.Contains(scaled, `namespace="ns",pod=~"theirs-.*"`) {
		t.Errorf("KEDA scales another one:\n%s", scaled)
	}
	all = release(t, `{deployment: {create: false, existing: {name: theirs, podLabels: {app: theirs}}}, autoscaling: {type: hpa}}`)
	if h := get[autoscalingv2.HorizontalPodAutoscaler](t, all, "HorizontalPodAutoscaler/"+named); h.Spec.ScaleTargetRef.Name != "theirs" {
		t.Errorf("the HPA scales %s", h.Spec.ScaleTargetRef.Name)
	}
}

// An autoscaler decides on the replicas, and no two of them.
func TestChartAutoscaling(t *testing.T) {
	for kind, want := range map[string]bool{"none": true, "hpa": false, "keda": false} {
		all := release(t, "autoscaling: {type: "+kind+"}")
		if got := get[appsv1.Deployment](t, all, "Deployment/"+named).Spec.Replicas != nil; got != want {
			t.Errorf("%s: replicas are said: %v", kind, got)
		}
		if hpa, keda := all["HorizontalPodAutoscaler/"+named] != nil, all["ScaledObject/"+named] != nil; hpa != (kind == "hpa") || keda != (kind == "keda") {
			t.Errorf("%s: HPA %v, ScaledObject %v", kind, hpa, keda)
		}
	}
}

// The policy lets pods reach Redis where it is, at each of its ports once.
func TestChartNetworkPolicy(t *testing.T) {
	for values, want := range map[string][]int{
		"{}": {6379}, "redis: {port: 6380}": {6380}, "redis: {url: 'redis://h'}": {6379}, "redis: {url: 'rediss://h:7000/1'}": {7000},
		"redis: {host: 'fd00::1', port: 6381}": {6381}, "redis: {addrs: ['a:1', 'b:2', 'c:1']}": {1, 2}, "redis: {host: /run/redis.sock}": nil,
	} {
		all := releaseOf(t, sidecarChart(t), merged(t, values, "networkPolicy: {enabled: true}"))
		var got []int
		for _, rule := range get[networkingv1.NetworkPolicy](t, all, "NetworkPolicy/"+named).Spec.Egress[1:] {
			for _, p := range rule.Ports {
				got = append(got, p.Port.IntValue())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: ports %v, want %v", values, got, want)
		}
	}
}

// A constraint for spreading without a selector spreads these pods; one with its own keeps it.
func TestChartSpread(t *testing.T) {
	d := deployment(t, `topologySpreadConstraints:
- {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}
- {maxSkew: 2, topologyKey: host, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}}`)
	list := d.Spec.Template.Spec.TopologySpreadConstraints
	if len(list) != 2 || !maps.Equal(list[0].LabelSelector.MatchLabels, d.Spec.Selector.MatchLabels) || !maps.Equal(list[1].LabelSelector.MatchLabels, map[string]string{"a": "b"}) {
		t.Errorf("%+v", list)
	}
}

// Labels and annotations for all are on all; they change no selector.
func TestChartCommonLabels(t *testing.T) {
	all := release(t, `{commonLabels: {team: a}, commonAnnotations: {x: "y"}, podLabels: {p: q}, podAnnotations: {r: s}, service: {enabled: true}, dashboard: {enabled: true}}`)
	for id, doc := range all {
		var o struct {
			Metadata struct{ Labels, Annotations map[string]string }
		}
		if err := yaml.Unmarshal(doc, &o); err != nil || o.Metadata.Labels["team"] != "a" || o.Metadata.Annotations["x"] != "y" {
			t.Errorf("%s has %+v, %v", id, o.Metadata, err)
		}
	}
	d := get[appsv1.Deployment](t, all, "Deployment/"+named)
	if pod := d.Spec.Template; pod.Labels["team"] != "a" || pod.Labels["p"] != "q" || pod.Annotations["r"] != "s" || len(d.Spec.Selector.MatchLabels) != 2 {
		t.Errorf("%+v, %v", pod.ObjectMeta, d.Spec.Selector)
	}
}

// The alerts and the dashboard are those of deploy/.
func TestChartHasTheAlertsAndTheDashboard(t *testing.T) {
	all := release(t, "{prometheusRule: {enabled: true}, dashboard: {enabled: true}}")
	rule := get[monitoringv1.PrometheusRule](t, all, "PrometheusRule/"+named)
	alerts, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var want monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(alerts, &want); err != nil || len(want.Groups) == 0 || !reflect.DeepEqual(rule.Spec, want) {
		t.Errorf("%v: the rules differ from deploy/prometheus/alerts.yml", err)
	}
	board := get[corev1.ConfigMap](t, all, "ConfigMap/"+named+"-dashboard")
	dashboard, err := os.ReadFile("../../deploy/grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if json.Unmarshal([]byte(board.Data["graflow-sidecar.json"]), &a) != nil || json.Unmarshal(dashboard, &b) != nil || !reflect.DeepEqual(a, b) {
		t.Error("the dashboard differs from deploy/grafana/dashboard.json")
	}
}

// The pod of `helm test` asks the Redis of the workers, and its labels are not those of a
// worker.
func TestChartTestPod(t *testing.T) {
	values := "redis: {url: 'rediss://h:1/2', username: u, keyPrefix: p, existingSecret: s, tls: {existingSecret: t, ca: true, clientCert: true}}"
	all := release(t, values)
	pod := get[corev1.Pod](t, all, "Pod/"+named+"-test")
	d := get[appsv1.Deployment](t, all, "Deployment/"+named)
	workers := env(probedContainer(t, d.Spec.Template.Spec))
	for name, value := range env(pod.Spec.Containers[0]) {
		if workers[name] != value {
			t.Errorf("%s is %q in the test and %q in a worker", name, value, workers[name])
		}
		delete(workers, name)
	}
	for name := range workers {
		if strings.HasPrefix(name, "REDIS_") {
			t.Errorf("the test has no %s", name)
		}
	}
	if pod.Annotations["helm.sh/hook"] != "test" || pod.Labels["app.kubernetes.io/name"] == d.Spec.Selector.MatchLabels["app.kubernetes.io/name"] {
		t.Errorf("%+v", pod.ObjectMeta)
	}
}

// The notes name what is there.
func TestChartNotes(t *testing.T) {
	for values, want := range map[string]string{
		"{}":                      "exec deploy/" + named + " -c worker -- /opt/sidecar/sidecar status",
		"pattern: native-sidecar": "exec deploy/" + named + " -c sidecar -- /sidecar status",
		"worker: {sidecarPath: /usr/bin/sidecar}":                                         "-- /usr/bin/sidecar status",
		"{pattern: native-sidecar, shutdownTimeoutSeconds: 60}":                           "125 s to stop",
		"deployment: {create: false, existing: {name: theirs, podLabels: {app: theirs}}}": "the Deployment theirs",
	} {
		files, err := render(sidecarChart(t), valuesOf(t, values))
		if notes := files["graflow-sidecar/templates/NOTES.txt"]; err != nil || !strings.Contains(notes, want) {
			t.Errorf("%s: %v, %q is not in\n%s", values, err, want, notes)
		}
	}
}

// pack runs scripts/chart and gives the file.
func pack(t *testing.T, umask, dir, version string) string {
	t.Helper()
	script, err := filepath.Abs("../../scripts/chart")
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	command := exec.Command("bash", "-c", "umask "+umask+`; cd "$0" && exec "$@"`, dir, script, t.TempDir(), out, version)
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	files, err := os.ReadDir(out)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	return filepath.Join(out, files[0].Name())
}

// The packed chart is the one in the repository with the version that is asked for, and the
// same bytes wherever and with whatever umask it is packed.
func TestChartPackage(t *testing.T) {
	path := pack(t, "022", ".", "9.8.7-rc.1")
	one, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(pack(t, "077", "/", "9.8.7-rc.1"))
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("the chart is packed differently each time: %v", err)
	}
	packed, err := loader.LoadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if m := packed.Metadata; m.Version != "9.8.7-rc.1" || m.AppVersion != m.Version || filepath.Base(path) != "graflow-sidecar-9.8.7-rc.1.tgz" {
		t.Errorf("%s is %s for %s", path, m.Version, m.AppVersion)
	}
	contents := func(c *chart.Chart) map[string]string {
		all := map[string]string{}
		for _, f := range c.Raw {
			all[f.Name] = string(f.Data)
		}
		delete(all, "Chart.yaml")
		return all
	}
	got := contents(packed)
	for name, text := range contents(sidecarChart(t)) {
		if got[name] != text {
			t.Errorf("%s differs in the package", name)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is only in the package", name)
	}
	image := get[appsv1.Deployment](t, releaseOf(t, packed, nil), "Deployment/"+named).Spec.Template.Spec.InitContainers[0].Image
	if image != "graflow-sidecar:9.8.7-rc.1" {
		t.Errorf("the image is %s", image)
	}
	if said, err := exec.Command("../../scripts/chart", t.TempDir(), t.TempDir(), "latest").CombinedOutput(); err == nil || !bytes.Contains(said, []byte("MAJOR.MINOR.PATCH")) {
		t.Errorf("a version that Helm does not take: %v, %s", err, said)
	}
}
