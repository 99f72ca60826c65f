package hub

import (
	"time"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// policy is what the port has agreed on, as data: who is told of what, by which
// sentence, and what each kind of recipient may see. It is read from one signed
// file, never changed once it is read, and versioned: every decision names the
// version that it used.
type policy struct {
	version string
	signer  string // id of the key that signed it; empty for the one built in
	text    []byte // the file as it was signed

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
	id, name, parent string
}

// route is one row of the routing table. It fires when every fact of when and
// none of unless holds, for a source with one of the roles in from (any role
// when there are none).
type route struct {
	period
	id     string
	when   []pb.Fact
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
	id          string // such as act-art5
	law         string // name of the law
	article     string
	designation string // of the organisation, as in Member.designations
	// system says that a designated computer must be hit.
	system bool
	to     []pb.Role // addressees
	form   string
	// preliminary and detailed are how long after the event was recognised the
	// reports are due; zero where the law sets nothing.
	preliminary, detailed time.Duration
	sentence              string
	outside               bool
}
