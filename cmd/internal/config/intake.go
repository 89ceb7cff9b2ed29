package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rescind/revocation"
	"rescind/revocation/intake"
)

// Intake is an entry that turns the events of an identity provider into
// revocations.
type Intake struct {
	Name    string
	Kind    string
	Issuers []string // that its events may affect
	May     []intake.Power
	DryRun  bool
	Map     intake.Map
	// Settings of the kind. Each kind has a type of its own in intake_KIND.go.
	Settings any
}

// intakeKind reads the settings of one kind of intake.
type intakeKind struct {
	// push says that senders send to the listener intake_http.
	push bool
	// read returns the readers of the keys of the kind, beside the common ones.
	// check is called after them if the entry is a mapping, for the rules over
	// several keys. Then the common keys of the intake are read too.
	read func(v value, i *Intake) (known keys, check func())
}

// intakeKinds has a line for each kind. Its reader is in intake_KIND.go.
var intakeKinds = map[string]intakeKind{
	"global_token_revocation": {push: true, read: readGlobalTokenRevocationIntake},
	"logout":                  {push: true, read: readLogoutIntake},
	"revocation_endpoint":     {push: true, read: readRevocationEndpointIntake},
	"keycloak":                {read: readKeycloakIntake},
	"ssf_poll":                {read: readSSFPoll},
	"ssf_push":                {push: true, read: readSSFPush},
	"webhook":                 {push: true, read: readWebhookIntake},
}

// readIntakes reads the entries, whose names must differ.
func readIntakes(v value, x *[]Intake) {
	name := distinct(text(isIntakeName))
	listOf(func(v value, i *Intake) { readIntake(v, i, name) })(v, x)
}

func readIntake(v value, i *Intake, name as[string]) {
	i.May = slices.Clone(intake.DefaultPowers)
	known := keys{
		"name":    need(&i.Name, "it stands in the audit and in the path of the endpoint", name),
		"kind":    need(&i.Kind, "one of "+kindNames(), text(isIntakeKind)),
		"issuers": need(&i.Issuers, "the issuers whose tokens the events may revoke", some(text(revocation.CheckIssuer))),
		"may":     restrict(&i.May, some(choice(powersByName()))),
		"dry_run": into(&i.DryRun, flag),
		"map":     into(&i.Map, intakeMap),
	}
	kind, ok := intakeKinds[kindOf(v)]
	if !ok { // the keys of an unknown kind are unknown too
		for key := range known {
			known[key](v.at(key))
		}
		return
	}
	more, check := kind.read(v, i)
	maps.Copy(known, more)
	if v.object(known) && check != nil {
		check()
	}
}

func kindOf(v value) string {
	if k := v.at("kind"); !k.absent() {
		s, _ := k.scalar()
		return s
	}
	return ""
}

func kindNames() string { return strings.Join(slices.Sorted(maps.Keys(intakeKinds)), ", ") }

func isIntakeKind(s string) error {
	if _, ok := intakeKinds[s]; !ok {
		return fmt.Errorf("%.40q is not a kind of intake; the kinds are %s", s, kindNames())
	}
	return nil
}

// isIntakeName accepts the name of an intake, which is a part of a path, of a
// metric and of a document in NATS.
func isIntakeName(s string) error {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return !isLetterOrDigit(r) && r != '-' && r != '_' }) {
		return fmt.Errorf("%.80q is not the name of an intake; at most 64 letters, digits, - and _ make one", s)
	}
	return nil
}

func powersByName() map[string]intake.Power {
	all := map[string]intake.Power{}
	for _, p := range intake.Powers {
		all[string(p)] = p
	}
	return all
}

// intakeMap reads which claim of a token carries each kind of name.
func intakeMap(v value, x *intake.Map) {
	m := intake.Map{}
	for _, e := range v.entries() {
		if !slices.Contains(intake.NameKinds(), e.name) {
			e.key.fault("%s", unknown(e.name, intake.NameKinds()))
			continue
		}
		name := m[e.name]
		if claimName(e.value, &name); e.value.absent() {
			e.value.fault("is missing: the claim that carries it, such as email")
		}
		m[e.name] = name
	}
	*x = m
}

// checkIntakes holds the rules over the intakes and their listener.
func (c *Control) checkIntakes(v value) {
	i := slices.IndexFunc(c.Intakes, func(i Intake) bool { return intakeKinds[i.Kind].push })
	switch at := v.at("intake_http"); {
	case i >= 0 && c.IntakeHTTP == nil && at.absent():
		v.at("intake").elements()[i].fault("senders push to it, so intake_http is needed: the address where it listens")
	case i < 0 && !at.absent():
		at.fault("has no use, because nothing in intake: is pushed to; remove it")
	}
	if l := c.IntakeHTTP; l != nil && (collide(l.Address, c.HTTP.Address) || collide(l.Address, c.Feed.Address)) {
		v.at("intake_http", "listen").fault("%s is where http or feed listens already; choose another port", l.Address)
	}
}

// readIntakeListener reads intake_http. Its default is the port that every document
// names.
func readIntakeListener(v value, x **Listener) {
	l := tcp("127.0.0.1:9393")
	readAdminListener(v, &l)
	*x = &l
}
