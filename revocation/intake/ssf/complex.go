package ssf

import (
	"errors"
	"maps"
	"slices"

	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
)

// complex returns the acts of a complex subject, whose members together describe
// it. A session is told from others by its ID alone. A session comes before a
// token, because a session has several tokens, and both come before the user.
func (s *Subjects) complex(members map[string]secevent.Subject) ([]intake.Act, error) {
	p, err := s.parts(members)
	if err != nil {
		return nil, err
	}
	for _, member := range s.Critical {
		if _, is := members[member]; is && !p.known[member] {
			return nil, refuse("the member %s of the subject is critical, and this receiver cannot process it", member)
		}
	}
	switch {
	case p.session != nil:
		return p.session, nil
	case p.token != nil:
		return p.token, nil
	case p.user != nil && p.unknown && s.Narrow:
		return nil, refuse("a member of the subject has no claim, and unmatched says ignore")
	case p.user != nil:
		return p.user, nil
	case p.everySession:
		return nil, refuse("the subject is every session of a user, and names no user who has tokens here")
	case p.client != nil && !p.unknown:
		return p.client, nil
	}
	return nil, refuse("no claim of a token carries the members of the subject")
}

// parts are the members of a complex subject, as far as they name tokens.
type parts struct {
	user, session, token, client []intake.Act
	everySession                 bool
	unknown                      bool            // there are members that no claim carries
	known                        map[string]bool // the members that were processed
}

func (s *Subjects) parts(members map[string]secevent.Subject) (*parts, error) {
	p := &parts{known: map[string]bool{}}
	if user, is := members[secevent.User]; is {
		acts, err := s.named(&user)
		if errors.As(err, new(foreign)) {
			return nil, err // the session of a stranger's user is not the transmitter's either
		}
		p.user, p.known[secevent.User] = acts, acts != nil
	}
	for _, member := range slices.Sorted(maps.Keys(members)) {
		part := members[member]
		switch {
		case member == secevent.User:
		case part.Format == secevent.TokenID:
			p.token, _ = s.simple(&part) // never fails for this format
			p.known[member] = true
		case member == secevent.Session:
			s.addSession(p, part.Value)
		default:
			s.addOther(p, member, part.Value)
		}
	}
	return p, nil
}

// addSession adds a session. Its issuer is that of the user, if the subject names
// one.
func (s *Subjects) addSession(p *parts, id string) {
	is, ok := s.claims.Claim(intake.NameSession, id)
	switch {
	case id == allSessions, ok && s.NoSessions:
		p.everySession = true
		p.known[secevent.Session] = p.user != nil
	case ok:
		issuers := s.issuers
		if p.user != nil {
			issuers = issuersOf(p.user)
		}
		p.session = each(intake.Session, is, issuers...)
		p.known[secevent.Session] = true
	default:
		p.unknown = true
	}
}

func issuersOf(acts []intake.Act) []string {
	var issuers []string
	for _, act := range acts {
		issuers = append(issuers, act.Issuer)
	}
	slices.Sort(issuers)
	return slices.Compact(issuers)
}

// addOther adds a member that is neither user nor session. An application is a
// client; together with a user it is one more member that narrows, for which
// there is no claim in the act of a user.
func (s *Subjects) addOther(p *parts, member, id string) {
	is, ok := s.claims.Claim(intake.NameClient, id)
	if member == secevent.Application && ok {
		p.client = each(intake.Client, is, s.issuers...)
		p.known[member] = true
		return
	}
	p.unknown = true
}
