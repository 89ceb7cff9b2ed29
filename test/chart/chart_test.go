package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
	"sigs.k8s.io/yaml"
)

// Each case is a deployment that an operator may want. Its objects have no unknown
// field, its pods have no privilege, and the product accepts its configuration.
func TestCases(t *testing.T) {
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 10 {
		t.Errorf("got %d cases, want those of testdata/cases", len(cases))
	}
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := Render(values)
			if err != nil {
				t.Fatal(err)
			}
			objects := Objects(files)
			shared.conforms(t, objects)
			shared.accepts(t, objects)
		})
	}
}

// Every combination of the switches renders objects that conform, and configurations
// that the product accepts. The names of the objects of one kind differ.
func TestCombinations(t *testing.T) {
	switches := [][]string{
		{`certificates: {mode: certManager}`, `certificates: {mode: job}`, `certificates: {mode: existing, secrets: {control: a, authz: b, operator: c, envoy: d}}`},
		{`control: {replicas: 1}`, `control: {replicas: 3, config: {intake: [{name: a, kind: logout, issuers: ["https://idp.example.com/"], discovery: true, clients: [web]}]}}`, `{control: {enabled: false}, authz: {control: ["control.example.com:9391"]}}`},
		{`authz: {kind: Deployment}`, `authz: {autoscaling: {enabled: true}}`, `authz: {kind: DaemonSet, storage: {kind: volumeClaim}}`},
		{`{}`, `istio: {enabled: true, policies: [{name: edge, namespace: edge}]}`, `envoyGateway: {enabled: true, policies: [{name: edge, namespace: edge, policy: default, targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]}]}`},
		{`networkPolicy: {enabled: false}`, `monitoring: {serviceMonitor: {enabled: true}}`},
	}
	every(switches, nil, func(chosen []string) {
		values, err := Read("testdata/base.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range chosen {
			own := Values{}
			if err := yaml.UnmarshalStrict([]byte(text), &own); err != nil {
				t.Fatal(err)
			}
			values = chartutil.CoalesceTables(own, values)
		}
		t.Run(strings.Join(chosen, " "), func(t *testing.T) {
			files, err := Render(values)
			if err != nil {
				t.Fatal(err)
			}
			objects := Objects(files)
			shared.conforms(t, objects)
			shared.accepts(t, objects)
			distinct(t, objects)
		})
	})
}

// every calls f with each choice of one element from each list.
func every(lists [][]string, chosen []string, f func([]string)) {
	if len(lists) == 0 {
		f(chosen)
		return
	}
	for _, one := range lists[0] {
		every(lists[1:], append(slices.Clip(chosen), one), f)
	}
}

func distinct(t *testing.T, objects [][]byte) {
	t.Helper()
	seen := map[string]bool{}
	for _, text := range objects {
		var o struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
		}
		if err := yaml.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(o)
		if seen[key] {
			t.Errorf("got two objects %s, want one", key)
		}
		seen[key] = true
	}
}

// The alert rules and the dashboard of the chart are the files that the other tests
// run, so a change of one reaches the other.
func TestRulesAndDashboard(t *testing.T) {
	values, err := Over("testdata/cases/monitoring.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files, err := Render(values)
	if err != nil {
		t.Fatal(err)
	}
	var rule struct{ Spec any }
	var dashboard struct{ Data map[string]string }
	if err := yaml.Unmarshal([]byte(files["monitoring/rules.yaml"]), &rule); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(files["monitoring/dashboard.yaml"]), &dashboard); err != nil {
		t.Fatal(err)
	}
	var wantRules, gotBoard, wantBoard any
	if err := yaml.Unmarshal(file(t, "../../envoy/prometheus-rules.yaml"), &wantRules); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(rule.Spec, wantRules) {
		t.Errorf("PrometheusRule: got the spec %v, want the rules of envoy/prometheus-rules.yaml", rule.Spec)
	}
	if err := json.Unmarshal([]byte(dashboard.Data["rescind.json"]), &gotBoard); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file(t, "../../envoy/grafana-dashboard.json"), &wantBoard); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(gotBoard, wantBoard) {
		t.Error("the dashboard of the chart is another one than envoy/grafana-dashboard.json")
	}
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
