package replica

import (
	"reflect"

	"rescind/cmd/internal/config"
	"rescind/jwks"
	"rescind/jwks/fetch"
	"rescind/jwks/statuslist"
)

// issuerLists are the status lists of an issuer, with the options that they were
// opened with. The options lack Keys, which are never compared by their content.
type issuerLists struct {
	options statuslist.Options
	keys    *jwks.Keys
	own     issuerKeys // keys of the one that signs the lists; zero: they are the issuer's
	lists   *statuslist.Lists
}

// listsOf returns the present status lists of an issuer, or opens new ones. It
// returns nil for an issuer without. New ones begin with the lists that the present
// ones hold, so that a reload does not forget which lists are in use.
func (p *process) listsOf(i config.Issuer, keys *jwks.Keys) (*issuerLists, error) {
	s := i.StatusLists
	if s == nil {
		return nil, nil
	}
	present := p.keys[i.Issuer].status
	next := &issuerLists{keys: keys, options: statuslist.Options{
		Issuer: i.Issuer, ForeignKeys: s.JWKSURI != "", URIs: s.URIs,
		MaxLists: s.MaxLists, MaxInflated: s.MaxInflated, MaxResponse: s.MaxResponse,
		MinRefresh: s.MinRefreshInterval, MaxRefresh: s.MaxRefreshInterval, MaxAge: s.MaxAge, Leeway: i.Leeway,
		Requests: fetch.Options{CAFile: i.CAFile, AllowHTTP: i.AllowHTTP}, Dir: below(p.options.Config.Revocation.Dir, "statuslists"), Figures: p.statusFigures, Logger: p.log,
	}}
	if s.JWKSURI != "" {
		var err error
		if next.own, err = p.signersOf(i, present); err != nil {
			return nil, err
		}
		next.keys = next.own.keys
	}
	var also []string
	if present != nil {
		if present.keys == next.keys && reflect.DeepEqual(present.options, next.options) {
			return present, nil
		}
		also = present.lists.URIs()
	}
	o := next.options
	o.Keys = next.keys
	var err error
	if next.lists, err = statuslist.Open(o, also...); err != nil {
		next.closeOwn(present)
		return nil, err
	}
	return next, nil
}

// signersOf returns the keys of the one that signs the lists of an issuer. They
// have a name of their own in files, logs and metrics. The credential for the
// issuer's keys is not sent to them.
func (p *process) signersOf(i config.Issuer, present *issuerLists) (issuerKeys, error) {
	o := p.keyOptions(i)
	o.Issuer += " (status lists)"
	o.URI, o.Discovery, o.File, o.TokenFile = i.StatusLists.JWKSURI, false, "", ""
	if present != nil && present.own.keys != nil && reflect.DeepEqual(present.own.options, o) {
		return present.own, nil
	}
	keys, err := jwks.Open(o)
	return issuerKeys{options: o, keys: keys}, err
}

// close ends the lists, and their keys unless used has the same ones. Both may be
// nil.
func (l *issuerLists) close(used *issuerLists) {
	if l == nil || l == used {
		return
	}
	l.lists.Close()
	l.closeOwn(used)
}

func (l *issuerLists) closeOwn(used *issuerLists) {
	if l.own.keys != nil && (used == nil || used.own.keys != l.own.keys) {
		l.own.keys.Close()
	}
}
