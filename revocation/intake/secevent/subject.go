package secevent

import (
	"slices"
	"strings"
)

// The formats of a subject that a [Subject] describes.
const (
	IssSub      = "iss_sub"
	Email       = "email"
	Opaque      = "opaque"
	PhoneNumber = "phone_number"
	Account     = "account"
	URI         = "uri"
	DID         = "did"
	TokenID     = "jwt_id"
	SAML        = "saml_assertion_id"
	Aliases     = "aliases"
	Complex     = "complex"
)

// simple says which members the simple formats have.
var simple = map[string]struct{ issuer, value string }{
	IssSub:      {"iss", "sub"},
	Email:       {"", "email"},
	Opaque:      {"", "id"},
	PhoneNumber: {"", "phone_number"},
	Account:     {"", "uri"},
	URI:         {"", "uri"},
	DID:         {"", "url"},
	TokenID:     {"iss", "jti"},
	SAML:        {"issuer", "assertion_id"},
}

// The members of a complex subject that the framework names.
const (
	User        = "user"
	Device      = "device"
	Session     = "session"
	Application = "application"
	Tenant      = "tenant"
	OrgUnit     = "org_unit"
	Group       = "group"
)

var complexMembers = []string{User, Device, Session, Application, Tenant, OrgUnit, Group}

// Subject is a subject identifier. Its format says which fields it has. A subject
// of a format that is not known has the format alone.
type Subject struct {
	Format  string
	Issuer  string             // of iss_sub, jwt_id and saml_assertion_id
	Value   string             // of a simple format: the sub, the email, the id, and so on
	Aliases []Subject          // identifiers of one subject, all of simple formats
	Members map[string]Subject // of a complex subject; all of them together describe it
}

// ReadSubject reads a subject identifier. Its error is a [*Fault].
func ReadSubject(v any) (Subject, error) {
	o, ok := v.(map[string]any)
	if !ok {
		return Subject{}, invalid("a subject must be an object")
	}
	format, err := formatOf(o)
	if err != nil {
		return Subject{}, err
	}
	switch format {
	case Complex:
		return readComplex(o)
	case Aliases:
		return readAliases(o)
	}
	return readSimple(format, o)
}

// formatOf returns the format of a subject. In older editions the member is
// subject_type, its words are joined by hyphens, and a complex subject has none.
func formatOf(o map[string]any) (string, error) {
	v, is := o["format"]
	if !is {
		v, is = o["subject_type"]
	}
	if is {
		s, err := name(v, "the format of a subject")
		return strings.ReplaceAll(s, "-", "_"), err
	}
	for _, member := range complexMembers {
		if _, is := o[member].(map[string]any); is {
			return Complex, nil
		}
	}
	return "", invalid("a subject must have a format")
}

func readSimple(format string, o map[string]any) (Subject, error) {
	s := Subject{Format: format}
	members, known := simple[format]
	if !known {
		return s, nil
	}
	var err error
	if s.Value, err = value(o, members.value); err == nil && members.issuer != "" {
		s.Issuer, err = value(o, members.issuer)
	}
	return s, err
}

func value(o map[string]any, member string) (string, error) {
	s, ok := o[member].(string)
	if !ok || s == "" || len(s) > maxValue {
		return "", invalid("%s of a subject must be a string of 1 to %d bytes", member, maxValue)
	}
	return s, nil
}

func readAliases(o map[string]any) (Subject, error) {
	list, ok := o["identifiers"].([]any)
	if !ok || len(list) == 0 || len(list) > maxNames {
		return Subject{}, invalid("identifiers of a subject must be an array of 1 to %d subjects", maxNames)
	}
	s := Subject{Format: Aliases}
	for _, v := range list {
		alias, err := readPart(v, Complex, Aliases)
		if err != nil {
			return Subject{}, err
		}
		s.Aliases = append(s.Aliases, alias)
	}
	return s, nil
}

// readComplex reads the members of a complex subject. Members that are no objects
// are no subjects, and are ignored.
func readComplex(o map[string]any) (Subject, error) {
	s := Subject{Format: Complex, Members: map[string]Subject{}}
	for member, v := range o {
		if _, is := v.(map[string]any); !is && !slices.Contains(complexMembers, member) {
			continue
		}
		if len(s.Members) == maxNames || len(member) > MaxID {
			return Subject{}, invalid("a complex subject must have at most %d members, with names of at most %d bytes", maxNames, MaxID)
		}
		part, err := readPart(v, Complex)
		if err != nil {
			return Subject{}, err
		}
		s.Members[member] = part
	}
	if len(s.Members) == 0 {
		return Subject{}, invalid("a complex subject must have a member")
	}
	return s, nil
}

// readPart reads a subject within a subject, which must have none of the formats.
func readPart(v any, formats ...string) (Subject, error) {
	s, err := ReadSubject(v)
	if err == nil && slices.Contains(formats, s.Format) {
		err = invalid("a subject of the format %s must not be within another", s.Format)
	}
	return s, err
}
