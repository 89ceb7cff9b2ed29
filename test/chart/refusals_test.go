package chart

import (
	"strings"
	"testing"

	"github.com/yannh/kubeconform/pkg/resource"
	"github.com/yannh/kubeconform/pkg/validator"
	"helm.sh/helm/v3/pkg/chartutil"
	"sigs.k8s.io/yaml"
)

// Values that make no deployment that works render nothing. The error names the key
// and the remedy.
func TestRefusedValues(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"no image":                     {`image: {repository: ""}`, "image.repository is empty: build the image"},
		"no version":                   {`image: {tag: ""}`, "image.tag and image.digest are empty"},
		"no secret of the cluster":     {`control: {clusterSecret: ""}`, "control.clusterSecret is empty: name a Secret whose key cluster.secret"},
		"no token of an operator":      {`control: {config: {admin: {tokens: []}}}`, "control.config.admin.tokens is empty: nobody could revoke. Run rescind token new"},
		"no token of the replicas":     {`control: {config: {feed: {tokens: []}}}`, "control.config.feed.tokens is empty: no replica could follow"},
		"no Secret of the replicas":    {`authz: {feedToken: ""}`, "authz.feedToken is empty: name a Secret"},
		"no issuer":                    {`authz: {config: {issuers: []}}`, "authz.config.issuers is empty"},
		"no certificates":              {`certificates: {mode: existing}`, "certificates.secrets.control is empty: name a Secret of type kubernetes.io/tls with tls.crt, tls.key and ca.crt for [localhost *.edge-rescind-control-nodes.gateways.svc.cluster.local"},
		"no certificate of Prometheus": {`{certificates: {mode: existing, secrets: {control: a, authz: b}}, monitoring: {serviceMonitor: {enabled: true}}}`, "certificates.secrets.operator is empty"},
		"nobody may ask":               {`authz: {allowedFrom: []}`, "authz.allowedFrom is empty: no Envoy could ask"},
		"nothing":                      {`{control: {enabled: false}, authz: {enabled: false}}`, "nothing would be installed"},
		"no control endpoint":          {`control: {enabled: false}`, "authz.control is empty and control.enabled is false"},
		"two control endpoints":        {`authz: {control: ["a:9391"]}`, "keep one of them"},
		"a DaemonSet that scales":      {`authz: {kind: DaemonSet, autoscaling: {enabled: true}}`, "authz.autoscaling.enabled has no effect"},
		"the bounds of the autoscaler": {`authz: {autoscaling: {enabled: true, minReplicas: 9, maxReplicas: 3}}`, "minReplicas is more than maxReplicas"},
		"two meshes":                   {`{istio: {enabled: true}, envoyGateway: {enabled: true}}`, "exclude each other"},
		"a mesh without replicas":      {`{istio: {enabled: true}, authz: {enabled: false}}`, "need authz.enabled=true"},
		"an unknown policy":            {`envoyGateway: {enabled: true, policies: [{name: a, namespace: b, policy: repots, targetRefs: [{group: g, kind: k, name: gw}]}]}`, "repots is not in authz.config.policies"},
		"an unknown policy of a route": {`istio: {enabled: true, policies: [{name: a, namespace: b, routes: [{name: r, policy: repots}]}]}`, "repots is not in authz.config.policies"},

		// Refused by values.schema.json.
		"an unknown key":             {`authz: {replica: 3}`, "at '/authz': additional properties 'replica' not allowed"},
		"a key of the chart":         {`control: {config: {http: {plaintext: true}}}`, "at '/control/config': additional properties 'http' not allowed"},
		"a listener of the chart":    {`control: {config: {feed: {listen: "0.0.0.0:1"}}}`, "at '/control/config/feed': additional properties 'listen' not allowed"},
		"an unknown key of authz":    {`authz: {config: {issuers: [{issuer: a, audience: b}]}}`, "additional properties 'audience' not allowed"},
		"an unknown key of a policy": {`authz: {config: {policies: {p: {scope: [a]}}}}`, "at '/authz/config/policies/p': additional properties 'scope' not allowed"},
		"four nodes":                 {`control: {replicas: 4}`, "at '/control/replicas'"},
		"a token instead of a hash":  {`control: {config: {admin: {tokens: [{name: a, sha256: hunter2, roles: [operator]}]}}}`, "at '/control/config/admin/tokens/0/sha256'"},
		"a role that there is not":   {`control: {config: {admin: {tokens: [{name: a, sha256: "` + strings.Repeat("0", 64) + `", roles: [admin]}]}}}`, "at '/control/config/admin/tokens/0/roles/0'"},
		"no limit of memory":         {`authz: {resources: {limits: {memory: null}}}`, "at '/authz/resources/limits': missing property 'memory'"},
		"an empty source":            {`authz: {allowedFrom: [{}]}`, "at '/authz/allowedFrom/0': minProperties"},
		"a principal with a star":    {`istio: {principals: ["cluster.local/ns/*/sa/x"]}`, "at '/istio/principals/0'"},
		"a provider in capitals":     {`istio: {provider: Rescind}`, "at '/istio/provider'"},
		"a selector and targetRefs":  {`istio: {policies: [{name: a, namespace: b, selector: {a: b}, targetRefs: [{group: g, kind: k, name: gw}]}]}`, "at '/istio/policies/0': 'not' failed"},
		"an excluded path":           {`istio: {policies: [{name: a, namespace: b, notPaths: ["/public/*"]}]}`, "additional properties 'notPaths' not allowed"},
		"a file in a folder":         {`authz: {files: [{secret: {name: a, items: [{key: k, path: ../k}]}}]}`, "at '/authz/files/0/secret/items/0/path'"},
		"an address that is not one": {`listenAddress: 127.0.0.1`, "at '/listenAddress'"},
	} {
		t.Run(name, func(t *testing.T) {
			own := Values{}
			if err := yaml.UnmarshalStrict([]byte(c.values), &own); err != nil {
				t.Fatal(err)
			}
			base, err := Read("testdata/base.yaml")
			if err != nil {
				t.Fatal(err)
			}
			files, err := Render(chartutil.CoalesceTables(own, base))
			if err == nil {
				t.Fatalf("%s: got %d files, want a refusal with %q", c.values, len(files), c.want)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got the error %q, want %q in it", c.values, err, c.want)
			}
		})
	}
}

// The chart names all faults at once, and has no password of its own: without values
// it renders nothing.
func TestDefaultsRenderNothing(t *testing.T) {
	files, err := Render(Values{})
	if err == nil {
		t.Fatalf("without values: got %d files, want a refusal", len(files))
	}
	for _, want := range []string{"image.repository", "control.clusterSecret", "control.config.admin.tokens", "authz.feedToken", "authz.config.issuers"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("without values: got the error %q, want a line about %s", err, want)
		}
	}
}

// The schemas refuse the mistakes that Kubernetes or Istio would ignore.
func TestSchemasRefuse(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"a misspelt provider":  {"provider:", "provder:", "provder"},
		"a misspelt failOpen":  {"failOpen:", "failOpn:", "failOpn"},
		"a number as duration": {"timeout: 500ms", "timeout: 5", "/spec/extAuth/timeout"},
		"an unknown action":    {"action: CUSTOM", "action: CUSTM", "/spec/action"},
		"a misspelt probe":     {"periodSeconds:", "periodSecs:", "periodSecs"},
		"a misspelt duration":  {"renewBefore:", "renewBefor:", "renewBefor"},
		"a misspelt endpoint":  {"interval: 15s", "intervall: 15s", "intervall"},
		"a text as a port":     {"port: 9191", "port: check", "/port"},
		"an unknown kind":      {"kind: SecurityPolicy\n", "kind: SecurityPolicies\n", "could not find schema"},
	} {
		t.Run(name, func(t *testing.T) {
			found := false
			for _, file := range []string{"istio", "envoy-gateway", "monitoring", "cert-manager"} {
				values, err := Over("testdata/cases/" + file + ".yaml")
				if err != nil {
					t.Fatal(err)
				}
				files, err := Render(values)
				if err != nil {
					t.Fatal(err)
				}
				for _, text := range Objects(files) {
					changed := strings.Replace(string(text), c.from, c.to, 1)
					if changed == string(text) {
						continue
					}
					found = true
					res := shared.schemas.ValidateResource(resource.Resource{Bytes: []byte(changed)})
					if res.Status == validator.Valid || !strings.Contains(faults(res), c.want) {
						t.Errorf("%q instead of %q: got %v, want a refusal of %s", c.to, c.from, faults(res), c.want)
					}
				}
			}
			if !found {
				t.Errorf("no object has %q, so the test changes nothing", c.from)
			}
		})
	}
}
