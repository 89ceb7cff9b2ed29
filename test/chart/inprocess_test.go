package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// The pod of a gateway that answers by itself has no privilege, the product accepts its
// configuration, and its parts fit each other. The tests of the release run it.
func TestGatewayPod(t *testing.T) {
	objects := Objects(map[string]string{"inprocess.yaml": string(file(t, "../../envoy/kubernetes/inprocess.yaml"))})
	shared.accepts(t, objects)
	workloads, maps, err := Workloads(objects)
	if err != nil {
		t.Fatal(err)
	}
	pod := workloads[0].Template.Spec
	module, replica, envoy := pod.InitContainers[0], workloads[0].product(), pod.Containers[0]

	var config struct {
		Known struct {
			Socket string
			UID    int64 `json:"envoy_uid"`
		} `json:"known_tokens"`
	}
	if err := yaml.Unmarshal([]byte(maps["edge-authz"].Data["authz.yaml"]), &config); err != nil {
		t.Fatal(err)
	}
	if got := *envoy.SecurityContext.RunAsUser; got != config.Known.UID || got == *replica.SecurityContext.RunAsUser {
		t.Errorf("the Envoy is user %d, want user %d of known_tokens.envoy_uid, and another one than the replica", got, config.Known.UID)
	}
	filter := fmt.Sprintf("socket=%s uid=%d\n", config.Known.Socket, *replica.SecurityContext.RunAsUser)
	if !strings.Contains(string(file(t, "../../envoy/envoy-inprocess.yaml")), filter) {
		t.Errorf("envoy-inprocess.yaml has no filter with %q, want the socket and the user of the replica", filter)
	}
	if module.Image != replica.Image {
		t.Errorf("the module is of the image %s and the replica of %s, want one image", module.Image, replica.Image)
	}
	path := envoy.Env[slices.IndexFunc(envoy.Env, func(e corev1.EnvVar) bool { return e.Name == "ENVOY_DYNAMIC_MODULES_SEARCH_PATH" })].Value
	if got := module.Args[1]; got != path {
		t.Errorf("the module is copied to %s, want %s, where Envoy looks", got, path)
	}
	socket := config.Known.Socket[:strings.LastIndexByte(config.Known.Socket, '/')]
	for folder, both := range map[string][2]corev1.Container{path: {module, envoy}, socket: {replica, envoy}} {
		if one, other := volumeAt(both[0], folder), volumeAt(both[1], folder); one == "" || one != other {
			t.Errorf("at %s %s has the volume %q and %s has %q, want one volume", folder, both[0].Name, one, both[1].Name, other)
		}
	}
}

// volumeAt returns the volume that a container mounts in a folder.
func volumeAt(c corev1.Container, folder string) string {
	for _, m := range c.VolumeMounts {
		if m.MountPath == folder {
			return m.Name
		}
	}
	return ""
}
