package manifests

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// kustomized is what `kubectl kustomize DIR` prints, by kind, each object checked strictly.
func kustomized(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, r := range made.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		check(t, text)
		all[r.GetKind()] = text
	}
	return all
}

// The folders of deploy/kubernetes are bases of kustomize, and what stands in them is in
// what it prints.
func TestKustomizeBases(t *testing.T) {
	for _, base := range []string{"entrypoint", "native-sidecar"} {
		all := kustomized(t, "../../deploy/kubernetes/"+base)
		if len(all) != 2 || all["Deployment"] == nil || all["PodDisruptionBudget"] == nil {
			t.Errorf("%s: %d kinds", base, len(all))
		}
	}
}

// An overlay puts the parts together: a namespace, an image, an autoscaler.
func TestKustomizeOverlay(t *testing.T) {
	all := kustomized(t, "testdata/overlay")
	var d appsv1.Deployment
	if err := yaml.UnmarshalStrict(all["Deployment"], &d); err != nil {
		t.Fatal(err)
	}
	if pod := d.Spec.Template.Spec; d.Namespace != "workers" || d.Spec.Replicas != nil || pod.Containers[0].Image != "registry.example/worker:7" || pod.NodeSelector["pool"] != "workers" {
		t.Errorf("%s", all["Deployment"])
	}
	if !strings.Contains(string(all["ScaledObject"]), "namespace: workers") {
		t.Errorf("%s", all["ScaledObject"])
	}
}
