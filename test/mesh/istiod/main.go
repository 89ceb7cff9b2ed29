// Command istiod serves the configuration that Istio's own generators make for a scene,
// over ADS and without Kubernetes:
//
//	istiod SCENE ADDRESS
//
// The registry of the cluster is the only part that is not Istio's own. The command reads
// the manifests of the folder ../.., and fails if one of them has a fault.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"istio.io/istio/pkg/test"

	"rescind/test/mesh"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "istiod:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: istiod SCENE ADDRESS")
	}
	i := slices.IndexFunc(mesh.Scenes, func(s mesh.Scene) bool { return s.Name == args[0] })
	if i < 0 {
		return fmt.Errorf("no scene %q", args[0])
	}
	m, err := mesh.Scenes[i].Read("../..")
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	return test.Wrap(func(t test.Failer) {
		mesh.Serve(t, m, func() (net.Listener, error) { return net.Listen("tcp", args[1]) })
		<-stop
	})
}
