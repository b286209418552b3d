package manifests

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

func files(t *testing.T, patterns ...string) (all []string) {
	t.Helper()
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		all = append(all, found...)
	}
	return all
}

func TestKubernetes(t *testing.T) {
	seen := map[string]int{}
	for _, path := range files(t, "deploy/kubernetes/*/[dhk][ep]*.yaml", "sidecar/internal/cli/testdata/manifest/[khn]*.yaml") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, doc := range bytes.Split(text, []byte("\n---\n")) {
			t.Run(fmt.Sprint(path, "/", i), func(t *testing.T) { seen[check(t, doc)]++ })
		}
	}
	for _, kind := range []string{"Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication"} {
		if seen[kind] == 0 {
			t.Errorf("no %s was checked", kind)
		}
	}
}

// check decodes one object and refuses fields that its type does not have.
func check(t *testing.T, doc []byte) string {
	var head struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(doc, &head); err != nil {
		t.Fatal(err)
	}
	strict := func(into any) {
		t.Helper()
		for _, err := range decode(doc, into) {
			t.Error(err)
		}
	}
	switch id := head.APIVersion + " " + head.Kind; id {
	case "apps/v1 Deployment":
		var d appsv1.Deployment
		strict(&d)
		checkPod(t, &d)
	case "v1 Pod":
		var p corev1.Pod
		strict(&p)
		checkContainers(t, p.Spec)
	case "v1 Secret":
		strict(&corev1.Secret{})
	case "v1 ConfigMap":
		strict(&corev1.ConfigMap{})
	case "v1 Service":
		strict(&corev1.Service{})
	case "v1 ServiceAccount":
		strict(&corev1.ServiceAccount{})
	case "networking.k8s.io/v1 NetworkPolicy":
		strict(&networkingv1.NetworkPolicy{})
	case "monitoring.coreos.com/v1 PodMonitor":
		strict(&monitoringv1.PodMonitor{})
	case "monitoring.coreos.com/v1 PrometheusRule":
		strict(&monitoringv1.PrometheusRule{})
	case "policy/v1 PodDisruptionBudget":
		strict(&policyv1.PodDisruptionBudget{})
	case "autoscaling/v2 HorizontalPodAutoscaler":
		strict(&autoscalingv2.HorizontalPodAutoscaler{})
	case "keda.sh/v1alpha1 ScaledObject", "keda.sh/v1alpha1 TriggerAuthentication":
		var value any
		strict(&value)
		for _, wrong := range conform(definition(t, strings.ToLower(head.Kind)+"s"), value, head.Kind) {
			t.Error(wrong)
		}
	default:
		t.Errorf("there is no type to check %q by", id)
	}
	return head.Kind
}

// decode is as strict as the API server: it refuses names that the type does not have, in
// another case too, and names that come twice.
func decode(doc []byte, into any) []error {
	text, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return []error{err}
	}
	unknown, err := kjson.UnmarshalStrict(text, into)
	if err != nil {
		return []error{err}
	}
	return unknown
}

// The decoder is what the checks stand on, so it is checked too.
func TestDecodeRefuses(t *testing.T) {
	for doc, want := range map[string]string{
		"spec: {replicas: 1}": "", "spec: {Replicas: 1}": "unknown field", "spec: {replica: 1}": "unknown field",
		"spec: {replicas: 1, replicas: 2}": "already", "spec: {replicas: many}": "cannot unmarshal",
	} {
		errs := decode([]byte(doc), &appsv1.Deployment{})
		if said := fmt.Sprint(errs); want == "" && errs != nil || !strings.Contains(said, want) {
			t.Errorf("%s: %s", doc, said)
		}
	}
}

// checkPod looks at what the types cannot say: that what belongs together does.
func checkPod(t *testing.T, d *appsv1.Deployment) {
	pod := d.Spec.Template.Spec
	checkContainers(t, pod)
	if pod.TerminationGracePeriodSeconds == nil || *pod.TerminationGracePeriodSeconds < 6 {
		t.Errorf("grace period %v", pod.TerminationGracePeriodSeconds)
	}
	for name, value := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Labels[name] != value {
			t.Errorf("pods have not the label %s=%s that selects them", name, value)
		}
	}
	probed := 0
	for _, c := range append(slices.Clone(pod.InitContainers), pod.Containers...) {
		if c.LivenessProbe != nil && c.ReadinessProbe != nil && c.StartupProbe != nil {
			probed++
			checkPort(t, c, d.Spec.Template.Annotations)
		}
	}
	if probed != 1 {
		t.Errorf("%d containers are probed", probed)
	}
}

// restricted are the checks of the Pod Security Standards, as the API server has them.
func restricted(t *testing.T) psapolicy.Evaluator {
	t.Helper()
	e, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// checkContainers looks at what each container of a pod has.
func checkContainers(t *testing.T, pod corev1.PodSpec) {
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("service links are on")
	}
	allowed := restricted(t).EvaluatePod(
		psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}, &metav1.ObjectMeta{}, &pod)
	if result := psapolicy.AggregateCheckResults(allowed); !result.Allowed {
		t.Errorf("the Pod Security Standard \"restricted\" refuses the pod: %s", result.ForbiddenDetail())
	}
	var volumes []string
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
	}
	for _, c := range append(slices.Clone(pod.InitContainers), pod.Containers...) {
		var mounted []string
		for _, m := range c.VolumeMounts {
			if !slices.Contains(volumes, m.Name) {
				t.Errorf("container %s mounts %s, which is no volume of %v", c.Name, m.Name, volumes)
			}
			if slices.Contains(mounted, m.MountPath) {
				t.Errorf("container %s mounts two volumes at %s", c.Name, m.MountPath)
			}
			mounted = append(mounted, m.MountPath)
		}
		if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Errorf("container %s: security context %+v", c.Name, c.SecurityContext)
		}
		if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("container %s has no resources", c.Name)
		}
		if len(c.Command) > 0 && !filepath.IsAbs(c.Command[0]) {
			t.Errorf("container %s starts %s, which has to be on its image's PATH", c.Name, c.Command[0])
		}
		if !c.Resources.Limits.Cpu().IsZero() {
			t.Errorf("container %s has a limit of the processor", c.Name)
		}
		for _, text := range append(slices.Concat(c.Command, c.Args), values(c.Env)...) {
			if single := strings.ReplaceAll(text, "$$", ""); strings.Contains(single, "$") {
				t.Errorf("container %s: Kubernetes would expand %q", c.Name, text)
			}
		}
		var names []string
		for _, e := range c.Env {
			if slices.Contains(names, e.Name) {
				t.Errorf("container %s has %s twice", c.Name, e.Name)
			}
			names = append(names, e.Name)
			if strings.Contains(e.Name, "PASSWORD") && !strings.HasSuffix(e.Name, "_FILE") && e.Value != "" {
				t.Errorf("container %s has %s in the open", c.Name, e.Name)
			}
		}
	}
}

func values(env []corev1.EnvVar) (all []string) {
	for _, e := range env {
		all = append(all, e.Value)
	}
	return all
}

// checkPort demands that what asks the sidecar asks where it listens.
func checkPort(t *testing.T, c corev1.Container, annotations map[string]string) {
	if len(c.Ports) != 1 || c.Ports[0].Name != "http" {
		t.Fatalf("container %s has the ports %v", c.Name, c.Ports)
	}
	port := fmt.Sprint(c.Ports[0].ContainerPort)
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p.HTTPGet.Port.String() != "http" {
			t.Errorf("container %s: a probe asks %s", c.Name, p.HTTPGet.Port.String())
		}
	}
	if said, there := annotations["prometheus.io/port"]; there && said != port {
		t.Errorf("Prometheus asks %s, and the port is %s", said, port)
	}
	i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "SIDECAR_HTTP_ADDR" })
	if i < 0 {
		t.Fatalf("container %s has no SIDECAR_HTTP_ADDR", c.Name)
	}
	host, listens, err := net.SplitHostPort(c.Env[i].Value)
	if ip := net.ParseIP(host); err != nil || listens != port || host != "" && !ip.IsUnspecified() {
		t.Errorf("container %s listens on %s, and its port is %s", c.Name, c.Env[i].Value, port)
	}
}

// definition is the schema of a kind of KEDA's.
func definition(t *testing.T, plural string) map[string]any {
	text, err := os.ReadFile(filepath.Join("testdata", "keda.sh_"+plural+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// conform compares a value with a structural schema: every field has to be known
// and of its type, and those that are required there.
func conform(schema map[string]any, value any, at string) (wrong []string) {
	kind, _ := schema["type"].(string)
	switch v := value.(type) {
	case map[string]any:
		if kind != "object" {
			return []string{at + " is an object, not " + kind}
		}
		properties, _ := schema["properties"].(map[string]any)
		others, _ := schema["additionalProperties"].(map[string]any)
		for name, item := range v {
			of, known := properties[name].(map[string]any)
			switch {
			case known:
				wrong = append(wrong, conform(of, item, at+"."+name)...)
			case others != nil:
				wrong = append(wrong, conform(others, item, at+"."+name)...)
			case properties != nil:
				wrong = append(wrong, at+"."+name+" is not known")
			}
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, there := v[name.(string)]; !there {
				wrong = append(wrong, at+"."+name.(string)+" is missing")
			}
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		if kind != "array" || items == nil {
			return []string{at + " is a list, not " + kind}
		}
		for i, item := range v {
			wrong = append(wrong, conform(items, item, fmt.Sprint(at, "[", i, "]"))...)
		}
	case string:
		if kind != "string" {
			wrong = append(wrong, at+" is a string, not "+kind)
		}
	case float64, int64:
		if kind != "integer" && kind != "number" {
			wrong = append(wrong, at+" is a number, not "+kind)
		}
	case bool:
		if kind != "boolean" {
			wrong = append(wrong, at+" is a boolean, not "+kind)
		}
	}
	return wrong
}

// The check of KEDA's objects is our own, so it is checked too.
func TestConformFinds(t *testing.T) {
	schema := definition(t, "scaledobjects")
	for doc, want := range map[string]string{
		`{spec: {scaleTargetRef: {name: a}, triggers: [{type: redis, metadata: {a: 1}}]}}`: "is a number",
		`{spec: {scaleTargetRef: {name: a}, triggers: [{typo: redis}]}}`:                   "typo is not known",
		`{spec: {triggers: []}}`: "scaleTargetRef is missing",
	} {
		var value any
		if err := yaml.Unmarshal([]byte(doc), &value); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(conform(schema, value, ""), "; "); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", doc, got, want)
		}
	}
}

func TestCompose(t *testing.T) {
	for _, path := range files(t, "deploy/compose.yaml", "sidecar/internal/cli/testdata/manifest/compose-*.yaml") {
		t.Run(path, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
				WorkingDir: t.TempDir(), Environment: types.Mapping{"REDIS_SENTINEL_PASSWORD": "s"},
				ConfigFiles: []types.ConfigFile{{Filename: path, Content: text}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if w, err := project.GetService("worker"); err != nil || !w.ReadOnly || w.StopGracePeriod == nil {
				t.Errorf("%+v, %v", w, err)
			} else if addr := w.Environment["SIDECAR_HTTP_ADDR"]; addr == nil || strings.HasSuffix(*addr, ":0") {
				t.Error("the health check has no fixed port to ask")
			}
			if strings.Contains(path, "rich") {
				w, _ := project.GetService("worker")
				if got, want := w.Command[len(w.Command)-1], `a "b" $HOME %i`; got != want {
					t.Errorf("the last word of the command is %q, want %q", got, want)
				}
			}
		})
	}
}
