package ssf

import (
	"fmt"
	"slices"
	"strings"

	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
)

// allSessions is the session by which Keycloak names every session of a user.
const allSessions = "ALL"

// Subjects says which tokens the subject of an event names.
type Subjects struct {
	// IssuerOf maps the issuer that a subject names to the issuer of its tokens,
	// where the two are written differently. Google's differ in the last slash.
	IssuerOf map[string]string
	// EmailDomains are the domains whose emails the transmitter may name. Nil:
	// all.
	EmailDomains []string
	// NoSessions says that tokens carry no sid. Then the session of a user is
	// all tokens of the user until the event.
	NoSessions bool
	// Critical are the members of a complex subject without which an event must
	// be discarded.
	Critical []string
	// Narrow refuses an event about a user and something else that no claim
	// carries, such as a device. Otherwise it is an event about the user.
	Narrow bool

	issuers []string   // of tokens that the transmitter may affect
	claims  intake.Map // by the format of a subject
}

// refusal says why a subject names no tokens.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// foreign is the refusal of a subject that the transmitter may not name.
type foreign string

func (f foreign) Error() string { return string(f) }

// acts returns an act without a cut-off for each set of tokens that the subject
// names. Its error is a refusal. The door refuses acts for issuers that its entry
// does not list.
func (s *Subjects) acts(sub *secevent.Subject) ([]intake.Act, error) {
	switch {
	case sub == nil:
		return nil, refuse("the event names no subject")
	case sub.Format == secevent.Complex:
		return s.complex(sub.Members)
	default:
		return s.named(sub)
	}
}

// named returns the acts of a simple subject, or of aliases. Aliases are names of
// one subject, so those that name tokens suffice.
func (s *Subjects) named(sub *secevent.Subject) ([]intake.Act, error) {
	if sub.Format != secevent.Aliases {
		return s.simple(sub)
	}
	var all []intake.Act
	var first error
	for i := range sub.Aliases {
		acts, err := s.simple(&sub.Aliases[i])
		if err != nil && first == nil {
			first = err
		}
		all = append(all, acts...)
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, first
}

func (s *Subjects) simple(sub *secevent.Subject) ([]intake.Act, error) {
	switch sub.Format {
	case secevent.IssSub:
		is, _ := s.claims.Claim(intake.NameSub, sub.Value)
		return each(intake.Subject, is, s.issuer(sub.Issuer)), nil
	case secevent.TokenID:
		return each(intake.Token, equality("jti", sub.Value), s.issuer(sub.Issuer)), nil
	case secevent.Email:
		return s.email(sub.Value)
	}
	value := sub.Value
	if sub.Format == secevent.Account {
		value = strings.TrimPrefix(value, "acct:")
	}
	is, ok := s.claims.Claim(sub.Format, value)
	if !ok {
		return nil, refuse("map names no claim for subjects of the format %s", sub.Format)
	}
	return each(intake.Subject, is, s.issuers...), nil
}

// email returns the acts of an email. A token may have it in lower case, as many
// issuers write it.
func (s *Subjects) email(written string) ([]intake.Act, error) {
	domain := written[strings.LastIndexByte(written, '@')+1:]
	if s.EmailDomains != nil && !slices.ContainsFunc(s.EmailDomains, func(d string) bool { return strings.EqualFold(d, domain) }) {
		return nil, foreign("email_domains does not list the domain of the email")
	}
	is, ok := s.claims.Claim(intake.NameEmail, written)
	if !ok {
		return nil, refuse("map names no claim for subjects of the format email")
	}
	acts := each(intake.Subject, is, s.issuers...)
	if lower, _ := s.claims.Claim(intake.NameEmail, strings.ToLower(written)); lower != is {
		acts = append(acts, each(intake.Subject, lower, s.issuers...)...)
	}
	return acts, nil
}

// each returns one act for each issuer.
func each(power intake.Power, is revocation.Claim, issuers ...string) []intake.Act {
	var acts []intake.Act
	for _, issuer := range issuers {
		acts = append(acts, intake.Act{Power: power, Issuer: issuer, Claims: []revocation.Claim{is}})
	}
	return acts
}

func equality(claim, value string) revocation.Claim {
	v, _ := revocation.ValueOf(value) // every string is a value
	return revocation.Claim{Name: claim, Value: v}
}

// issuer returns the issuer of the tokens of a subject.
func (s *Subjects) issuer(named string) string {
	if to, is := s.IssuerOf[named]; is {
		return to
	}
	return named
}
