package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// The kinds of objects that run the product.
var workloads = map[string]bool{"StatefulSet": true, "Deployment": true, "DaemonSet": true}

// Workload is a pod template of the chart with its configuration.
type Workload struct {
	Kind, Name string
	Replicas   int
	Template   corev1.PodTemplateSpec
}

// Workloads returns the workloads among objects, and the ConfigMaps by their names.
func Workloads(objects [][]byte) (all []Workload, maps map[string]corev1.ConfigMap, err error) {
	maps = map[string]corev1.ConfigMap{}
	for _, text := range objects {
		// The fields of a Deployment and of a DaemonSet that count here are those of
		// a StatefulSet.
		var s appsv1.StatefulSet
		var c corev1.ConfigMap
		if err := yaml.Unmarshal(text, &s.TypeMeta); err != nil {
			return nil, nil, err
		}
		switch {
		case s.Kind == "ConfigMap":
			if err := yaml.UnmarshalStrict(text, &c); err != nil {
				return nil, nil, err
			}
			maps[c.Name] = c
		case workloads[s.Kind]:
			if err := yaml.Unmarshal(text, &s); err != nil {
				return nil, nil, err
			}
			w := Workload{Kind: s.Kind, Name: s.Name, Replicas: 1, Template: s.Spec.Template}
			if s.Kind == "StatefulSet" {
				w.Replicas = int(*s.Spec.Replicas)
			}
			all = append(all, w)
		}
	}
	return all, maps, nil
}

// folder is where the chart mounts the configuration.
const folder = "/etc/rescind"

// Mount writes the files of the configuration into a folder, as the kubelet does, and
// returns the arguments of the product for that folder. secret returns the content of
// a key of a Secret.
func (w Workload) Mount(dir, pod string, maps map[string]corev1.ConfigMap, secret func(name, key string) ([]byte, error)) ([]string, error) {
	container := w.product()
	for _, volume := range w.Template.Spec.Volumes {
		if volume.Name != "configuration" {
			continue
		}
		for _, source := range volume.Projected.Sources {
			files, err := contents(source, maps, secret)
			if err != nil {
				return nil, err
			}
			for path, text := range files {
				if err := os.WriteFile(filepath.Join(dir, path), text, 0o600); err != nil {
					return nil, err
				}
			}
		}
	}
	var args []string
	for _, arg := range container.Args {
		arg = strings.ReplaceAll(arg, "$(POD_NAME)", pod)
		args = append(args, strings.ReplaceAll(arg, folder, dir))
	}
	return args, nil
}

// contents returns the files of one source of a projected volume.
func contents(source corev1.VolumeProjection, maps map[string]corev1.ConfigMap, secret func(name, key string) ([]byte, error)) (map[string][]byte, error) {
	files := map[string][]byte{}
	switch {
	case source.ConfigMap != nil:
		c, there := maps[source.ConfigMap.Name]
		if !there {
			return nil, fmt.Errorf("the volume names the ConfigMap %s, which the chart does not have", source.ConfigMap.Name)
		}
		for path, text := range c.Data {
			files[path] = []byte(text)
		}
	case source.Secret != nil:
		for _, item := range source.Secret.Items {
			text, err := secret(source.Secret.Name, item.Key)
			if err != nil {
				return nil, err
			}
			files[item.Path] = text
		}
	}
	return files, nil
}

// product returns the container that runs the product: the sidecar, or the first
// container of a pod without one.
func (w Workload) product() corev1.Container {
	for _, c := range w.Template.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			return c
		}
	}
	return w.Template.Spec.Containers[0]
}

// Environment returns the variables of the product that its configuration may use.
func (w Workload) Environment(pod string) []string {
	var env []string
	for _, e := range w.product().Env {
		switch {
		case e.Name == "POD_NAME":
			env = append(env, "POD_NAME="+pod)
		case e.ValueFrom == nil:
			env = append(env, e.Name+"="+e.Value)
		}
	}
	return env
}
