package chart

import (
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Each name by which a part is called is in its certificate, whether the job or
// cert-manager makes it: by the other nodes, the replicas, the probes, Prometheus and
// Envoy Gateway.
func TestNamesInCertificates(t *testing.T) {
	for _, mode := range []string{"job", "certManager"} {
		for _, switches := range []string{"monitoring", "envoy-gateway", "five"} {
			t.Run(mode+" "+switches, func(t *testing.T) {
				values, err := Over("testdata/cases/" + switches + ".yaml")
				if err != nil {
					t.Fatal(err)
				}
				values["certificates"] = Values{"mode": mode}
				files, err := Render(values)
				if err != nil {
					t.Fatal(err)
				}
				certificates, called := names(t, Objects(files))
				for part, atLeast := range map[string]int{"control": 10, "authz": 0} {
					if len(called[part]) < atLeast {
						t.Errorf("%s: got %d names by which it is called, want at least %d", part, len(called[part]), atLeast)
					}
					for _, host := range called[part] {
						if err := certificates[part].VerifyHostname(host); err != nil {
							t.Errorf("%s is called by %s: %v", part, host, err)
						}
					}
				}
			})
		}
	}
}

// names returns the certificates that the objects ask for, and the names by which
// clients call each part.
func names(t *testing.T, objects [][]byte) (certificates map[string]*x509.Certificate, called map[string][]string) {
	t.Helper()
	certificates, called = map[string]*x509.Certificate{}, map[string][]string{}
	part := func(secret string) string {
		return strings.TrimSuffix(secret[strings.LastIndex(strings.TrimSuffix(secret, "-tls"), "-")+1:], "-tls")
	}
	workloads, maps, err := Workloads(objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range objects {
		var o struct {
			Kind string
			Spec struct {
				SecretName  string
				DNSNames    []string
				IPAddresses []string
				Endpoints   []struct{ TLSConfig struct{ ServerName string } }
				Validation  struct{ Hostname string }
				Template    struct {
					Spec struct {
						Containers []struct{ Args []string }
					}
				}
			}
		}
		if err := yaml.Unmarshal(text, &o); err != nil && strings.Contains(string(text), "cert-manager.io") {
			t.Fatal(err)
		}
		switch o.Kind {
		case "Certificate":
			certificates[part(o.Spec.SecretName)] = certificate(append(o.Spec.DNSNames, o.Spec.IPAddresses...))
		case "Job":
			for _, arg := range o.Spec.Template.Spec.Containers[0].Args {
				if secret, ok := strings.CutPrefix(arg, "--secret="); ok {
					name, hosts, _ := strings.Cut(secret, "=")
					certificates[part(name)] = certificate(strings.Split(hosts, ","))
				}
			}
		case "ServiceMonitor":
			if host := o.Spec.Endpoints[0].TLSConfig.ServerName; host != "" {
				called["control"] = append(called["control"], host)
			}
		case "BackendTLSPolicy":
			called["authz"] = append(called["authz"], o.Spec.Validation.Hostname)
		}
	}
	for _, c := range maps {
		for _, text := range c.Data {
			called["control"] = append(called["control"], peers(t, text)...)
		}
	}
	for _, w := range workloads {
		if probe := w.Template.Spec.Containers[0].ReadinessProbe.Exec; probe != nil {
			u, err := url.Parse(probe.Command[len(probe.Command)-1])
			if err != nil {
				t.Fatal(err)
			}
			called["control"] = append(called["control"], u.Hostname(), "127.0.0.1")
		}
	}
	return certificates, called
}

// peers returns the control nodes that a configuration of either server names.
func peers(t *testing.T, text string) (hosts []string) {
	t.Helper()
	var config struct {
		Revocation struct{ Control []string }
		Store      struct{ Cluster struct{ Peers []string } }
	}
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	for _, address := range append(config.Revocation.Control, config.Store.Cluster.Peers...) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, host)
	}
	return hosts
}

func certificate(hosts []string) *x509.Certificate {
	c := &x509.Certificate{}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	return c
}
