package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestKubernetes reads the manifests of examples/kubernetes as Kubernetes does, into the
// types that its OpenAPI schema is made of: no field that it does not know, and each of
// its type. Their containers run as a pod should that holds an identity, and give runner
// flags that it has.
func TestKubernetes(t *testing.T) {
	files, err := filepath.Glob("../../examples/kubernetes/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
			var kind struct{ Kind string }
			if err := yaml.Unmarshal(doc, &kind); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			var into any
			var pod *core.PodSpec
			switch kind.Kind {
			case "CronJob":
				c := &batch.CronJob{}
				into, pod = c, &c.Spec.JobTemplate.Spec.Template.Spec
				defer func() {
					if c.Spec.ConcurrencyPolicy != batch.ForbidConcurrent {
						t.Errorf("%s: two nights may run at once", file)
					}
				}()
			case "Job":
				j := &batch.Job{}
				into, pod = j, &j.Spec.Template.Spec
				defer func() {
					if *j.Spec.CompletionMode != batch.IndexedCompletion || *j.Spec.Completions != *j.Spec.Parallelism {
						t.Errorf("%s: %v, %d pods for %d shards", file, *j.Spec.CompletionMode, *j.Spec.Parallelism, *j.Spec.Completions)
					}
				}()
			case "ServiceAccount":
				into = &core.ServiceAccount{}
			case "PersistentVolumeClaim":
				into = &core.PersistentVolumeClaim{}
			default:
				t.Fatalf("%s: a %q", file, kind.Kind)
			}
			if err := yaml.UnmarshalStrict(doc, into); err != nil {
				t.Errorf("%s: %s: %v", file, kind.Kind, err)
			}
			if pod != nil {
				checkPod(t, file, pod)
			}
		}
	}
}

func checkPod(t *testing.T, file string, pod *core.PodSpec) {
	t.Helper()
	c := &pod.Containers[0]
	if !*pod.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation {
		t.Errorf("%s: the container may do more than it must", file)
	}
	var volumes []string
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
	}
	for _, m := range c.VolumeMounts {
		if !slices.Contains(volumes, m.Name) {
			t.Errorf("%s: there is no volume %s", file, m.Name)
		}
	}
	for _, e := range c.Env {
		if strings.Contains(strings.ToUpper(e.Name), "KEY") || strings.Contains(strings.ToUpper(e.Name), "CONNECTION") {
			t.Errorf("%s: %s is a secret", file, e.Name)
		}
	}
	apply, _, err := newRoot(environment{getenv: func(string) string { return "0" }}).Find([]string{"apply"})
	if err != nil || c.Args[0] != "apply" {
		t.Fatalf("%s: %v, %v", file, c.Args, err)
	}
	if err := apply.ParseFlags(c.Args[1:]); err != nil || len(apply.Flags().Args()) != 1 {
		t.Errorf("%s: %v, %v", file, c.Args, err)
	}
}
