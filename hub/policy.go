package hub

import (
	"slices"
	"time"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// policy is what the port has agreed on, as data: who is told of what, by which
// sentence, and what each kind of recipient may see. It is read from one signed
// file, never changed once it is read, and versioned: every decision names the
// version that it used.
type policy struct {
	name    string // of the file, for messages
	version string
	signer  string // id of the key that signed it; empty for the one built in
	text    []byte // the file as it was signed

	// largeScale says that the port acts under 大規模重要インフラサービス障害対応時
	// の体制: it adds recipients and removes none.
	largeScale bool

	// backlog is how far back a member that joins may read, for TLP:CLEAR and
	// TLP:GREEN only; a label that is missing gives nothing.
	backlog map[tlp.Label]time.Duration
	// flows is the kind of way to each role. A role that is missing is a peer.
	flows map[pb.Role]pb.Flow
	// issuers are the roles whose own notices reach everybody whole and by name.
	issuers     map[pb.Role]bool
	communities []community
	routes      []route
	duties      []duty
}

// period is when an entry holds: from <= t < to. A zero end is open.
type period struct{ from, to time.Time }

func (p period) holds(t time.Time) bool {
	return (p.from.IsZero() || !t.Before(p.from)) && (p.to.IsZero() || t.Before(p.to))
}

// community is a group that TLP:GREEN can name. Communities form a tree below
// the port's own: whoever is in one is in all above it.
type community struct {
	period
	line             int // in the file
	id, name, parent string
}

// route is one row of the routing table. It fires when every fact of when, at
// least one of anyOf (if there are any) and none of unless holds, for a source
// with one of the roles in from (any role when there are none).
type route struct {
	period
	line   int // in the file
	id     string
	when   []pb.Fact
	anyOf  []pb.Fact
	unless []pb.Fact
	from   []pb.Role // roles of the source
	by     pb.Role   // TASK: the role of the recipient that passes it on
	to     []pb.Role // roles of those who are told; empty means the source's own organisation
	// near leaves only offices that are competent for the source's port.
	near       bool
	identity   identity
	obligation pb.Obligation
	act        pb.Act
	form       string // EXPORT: id of the form
	sentence   string // the guideline's, or what else it rests on
	outside    bool   // the addressee may be outside of the system: a role without a holder is no mistake
	large      bool   // only in large-scale mode
	off        bool   // written down and not in use
}

// identity says what a route shows of the source.
type identity string

const (
	named      identity = "named"      // the whole report as it was signed
	projected  identity = "projected"  // what the flow to the recipient's role lets through
	anonymised identity = "anonymised" // by way of the secretariat
)

// duty is one law that obliges a designated organisation to report what hits a
// designated system (legal duty, two steps: never by sector alone).
type duty struct {
	period
	line        int    // in the file
	id          string // such as act-art5
	law         string // name of the law
	article     string
	designation string // of the organisation, as in Member.designations
	// system says that a designated computer must be hit.
	system bool
	to     []pb.Role // addressees
	form   string
	// preliminary and detailed are how long after the report was made the full
	// reports are due; zero where the law sets nothing.
	preliminary, detailed time.Duration
	sentence              string
	outside               bool
}

// at is the policy with the entries that are in force at t.
func (p *policy) at(t time.Time) *policy {
	now := *p
	now.communities = inForce(p.communities, func(c *community) bool { return c.holds(t) })
	now.routes = inForce(p.routes, func(r *route) bool { return r.holds(t) })
	now.duties = inForce(p.duties, func(d *duty) bool { return d.holds(t) })
	return &now
}

// inForce shares the entries when all of them hold, as they mostly do.
func inForce[E any](all []E, holds func(*E) bool) []E {
	for i := range all {
		if holds(&all[i]) {
			continue
		}
		left := slices.Clone(all[:i])
		for j := i + 1; j < len(all); j++ {
			if holds(&all[j]) {
				left = append(left, all[j])
			}
		}
		return left
	}
	return all
}

// fire is the rows that a report from source makes fire, in the order of the
// file. Rows are independent: that one fires never keeps another from firing.
// The policy must be one that at has given.
func (p *policy) fire(o *pb.Outline, source *pb.Member) []route {
	var fired []route
	for i := range p.routes { // a row is large, and most do not fire
		if r := &p.routes[i]; p.uses(r) && r.fires(o, source) {
			fired = append(fired, *r)
		}
	}
	return fired
}

// uses reports whether a row is in use in the mode that the port is in.
func (p *policy) uses(r *route) bool { return !r.off && (!r.large || p.largeScale) }

func (r *route) fires(o *pb.Outline, source *pb.Member) bool {
	if len(r.from) > 0 && !slices.Contains(r.from, source.GetRole()) {
		return false
	}
	missing := func(f pb.Fact) bool { return !o.Says(f) }
	return !slices.ContainsFunc(r.when, missing) &&
		!slices.ContainsFunc(r.unless, o.Says) &&
		(len(r.anyOf) == 0 || slices.ContainsFunc(r.anyOf, o.Says))
}

// dutiesOf is the legal duties of source for a report: the law must have
// designated the organisation and, where it asks for that, the system that was
// hit. The policy must be one that at has given.
func (p *policy) dutiesOf(o *pb.Outline, source *pb.Member) []duty {
	var owed []duty
	for _, d := range p.duties {
		if slices.Contains(source.GetDesignations(), d.designation) && (!d.system || o.Says(pb.Fact_FACT_DESIGNATED_COMPUTER)) {
			owed = append(owed, d)
		}
	}
	return owed
}

// hasCommunity reports whether the policy has the community.
func (p *policy) hasCommunity(id string) bool {
	return slices.ContainsFunc(p.communities, func(c community) bool { return c.id == id })
}

// above is a community and all that it is part of, up to but without the
// port's own. The policy must be one that at has given.
func (p *policy) above(id string) []string {
	chain := []string{id}
	for {
		i := slices.IndexFunc(p.communities, func(c community) bool { return c.id == id })
		if i < 0 || p.communities[i].parent == "" || slices.Contains(chain, p.communities[i].parent) {
			return chain
		}
		id = p.communities[i].parent
		chain = append(chain, id)
	}
}
