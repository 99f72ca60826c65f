package hub

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// world is all that a decision looks at beside the report: who is there, what
// the port has agreed on, and when.
type world struct {
	dir    *directory
	policy *policy // in force at now
	now    time.Time
	active []*pb.Member // those that may send and receive, by id
}

// worldAt is the world of a directory at an instant.
func worldAt(d *directory, now time.Time) world {
	d = d.at(now)
	return world{dir: d, policy: d.policy.at(now), now: now, active: d.present()}
}

// parent is a report that another one derives from.
type parent struct {
	*pb.Handling         // in force now
	quoted       *quoted // nil for the source's own
}

// quoted is a report of somebody else.
type quoted struct {
	outline *pb.Outline
	source  string
	held    *pb.Copy                 // the copy of the member that quotes it
	holds   func(member string) bool // who has it
}

// mayHave reports whether a member may learn of a parent by what by derives from
// it: it has the parent, or by could pass the parent on to it. What is derived
// goes no further than what it derives from.
func (q parent) mayHave(m, by *pb.Member, w world) bool {
	if q.quoted == nil || m.GetId() == q.quoted.source || q.quoted.holds(m.GetId()) {
		return true
	}
	sealed := check.Label(q.quoted.outline.GetTlp()).NeedsSeal()
	return q.quoted.held != nil && len(forwardable(check.Label(q.GetTlp()), sealed, q.Handling, true, w.now)) == 0 &&
		secretTo(q.Handling, m) && mayPass(q.quoted.outline, q.Handling, by, q.quoted.held, m, w) != nil
}

// candidate is a member that somebody wants to have a copy.
type candidate struct {
	member  *pb.Member
	grounds []*pb.Ground
	// sought is true when the source named the member itself; field is where.
	sought  bool
	field   string
	persons []string
	// named is true when a route wants the whole report for it, projected when
	// one wants no more than a projection.
	named, projected bool
	everyone         bool // it gets what everybody gets: the label or the community
}

// plan decides who gets which copy of a report and by which rule, what waits
// for a person and who is left out, or says everything that stands against
// sending. It is the one gate: delivery carries plans out and decides nothing,
// and the preview is this same function. It sees the outline only, so that it
// decides the same where the hub is blind. parents are the reports that this
// one derives from, in the order of derived_from, then those from which the
// report derives whose label it changes.
//
// Rows of the policy are independent: several may fire for one report. The
// audience is what the rows and the source name, within the label, the
// restrictions and the regime of secrecy. Whom a duty names and the label
// excludes is an error before anything is sent, never a silent drop.
func plan(o *pb.Outline, source string, parents []parent, w world) (*pb.Plan, []rpc.Violation) {
	p := planning{o: o, w: w, source: w.dir.members[source], label: check.Label(o.GetTlp()), byID: map[string]*candidate{}}
	p.plan = &pb.Plan{
		DirectoryRevision: w.dir.revision, PolicyVersion: w.policy.version, DecideTime: timestamppb.New(w.now),
	}
	p.parents = parents
	p.inherit(parents)
	if e := p.plan.GetHandling().GetRestrictions().GetExpireTime(); e != nil && !w.now.Before(e.AsTime()) {
		p.refuse("restrictions.expire_time", "EXPIRED",
			"有効期限を過ぎているため、だれにも届きません。期限を延ばして送り直してください。",
			"It has expired and would reach nobody. Send it again with a later expiry.")
	}
	if p.label.NeedsCommunity() {
		p.bad = append(p.bad, checkCommunity(o.GetCommunityId(), p.source, w)...)
	}
	p.sought()
	p.routes()
	p.duties()
	p.decide()
	if len(p.bad) > 0 {
		return nil, p.bad
	}
	if len(p.plan.Copies) == 0 {
		return nil, []rpc.Violation{nobody(p.label, len(o.GetRecipients()) > 0)}
	}
	return p.plan, nil
}

// planning is one decision while it is being made.
type planning struct {
	o      *pb.Outline
	w      world
	source *pb.Member
	label  tlp.Label

	candidates []*candidate // in the order in which they were named
	byID       map[string]*candidate
	plan       *pb.Plan
	tasks      []route // TASK rows that fired
	parents    []parent
	bad        []rpc.Violation
}

func (p *planning) refuse(field, reason, ja, en string) {
	p.bad = append(p.bad, violation(field, reason, ja, en))
}

// inherit makes the handling at least as strict as that of the reports that
// this one derives from (guideline, 格付けの継承). The label is part of what the
// node signed and is not changed here: one that is too loose is refused.
func (p *planning) inherit(parents []parent) {
	h := &pb.Handling{
		Tlp: p.o.GetTlp(), CommunityId: p.o.GetCommunityId(), Restrictions: p.o.GetRestrictions(),
		SecrecyRegime: p.o.GetSecrecyRegime(), OnwardPermissions: p.o.GetOnwardPermissions(),
	}
	for i, parent := range parents {
		field, id := "relabels", p.o.GetRelabels() // through the report whose label this one changes
		if i < len(p.o.GetDerivedFrom()) {
			field, id = fmt.Sprintf("derived_from[%d]", i), p.o.GetDerivedFrom()[i]
		}
		was := check.Label(parent.GetTlp())
		if tlp.Strictest(p.label, was) != p.label {
			p.refuse("tlp", "LABEL_LOOSER_THAN_SOURCE",
				fmt.Sprintf("引用元 %.8s は %s です。%s 以上に厳しい表示にしてください (--tlp)。", id, was, was),
				fmt.Sprintf("It derives from %.8s, which is %s. Use %s or a stricter label (--tlp).", id, was, was))
		}
		if was == tlp.Green && p.label == tlp.Green && parent.GetCommunityId() != p.o.GetCommunityId() &&
			!slices.Contains(p.w.policy.above(p.o.GetCommunityId()), parent.GetCommunityId()) && parent.GetCommunityId() != p.w.dir.port {
			p.refuse("community_id", "COMMUNITY_WIDER_THAN_SOURCE",
				fmt.Sprintf("引用元の共有範囲は %q です。同じ範囲か、その中の範囲にしてください。", parent.GetCommunityId()),
				fmt.Sprintf("What it derives from is for community %q. Use that or one inside of it.", parent.GetCommunityId()))
		}
		if s := parent.GetSecrecyRegime(); s > pb.SecrecyRegime_SECRECY_REGIME_NONE && s != h.GetSecrecyRegime() {
			p.refuse("secrecy_regime", "SECRECY_LOST",
				fmt.Sprintf("引用元 (%s) には法令・契約による守秘があります。--secrecy で同じものを指定してください。", field),
				fmt.Sprintf("What it derives from (%s) is under a duty of secrecy. Give the same with --secrecy.", field))
		}
		h.Restrictions = strictest(h.GetRestrictions(), parent.GetRestrictions())
	}
	p.plan.Handling = h
}

// strictest is the union of two sets of restrictions: every prohibition of
// either, the earlier expiry, both texts.
func strictest(a, b *pb.Restrictions) *pb.Restrictions {
	if a == nil || b == nil || proto.Equal(a, b) {
		return cmp.Or(a, b)
	}
	u := &pb.Restrictions{
		NoCopy: a.GetNoCopy() || b.GetNoCopy(), NoExport: a.GetNoExport() || b.GetNoExport(),
		NoDistribution: a.GetNoDistribution() || b.GetNoDistribution(), ChathamHouse: a.GetChathamHouse() || b.GetChathamHouse(),
		ExpireTime: a.GetExpireTime(), Text: a.GetText(),
	}
	if e := b.GetExpireTime(); e != nil && (u.ExpireTime == nil || e.AsTime().Before(u.ExpireTime.AsTime())) {
		u.ExpireTime = e
	}
	if t := b.GetText(); t != "" && !strings.Contains(u.Text, t) {
		u.Text = strings.TrimPrefix(u.Text+"\n"+t, "\n")
	}
	return u
}

// sought takes in the members that the source names, or for TLP:GREEN and
// TLP:CLEAR without a name everybody whom the label permits.
func (p *planning) sought() {
	if len(p.o.GetRecipients()) == 0 {
		p.everybody()
		return
	}
	for i, to := range p.o.GetRecipients() {
		m, bad := p.w.recipient(fmt.Sprintf("recipients[%d]", i), to, p.source.GetId())
		if bad != nil {
			p.bad = append(p.bad, *bad)
			continue
		}
		c := p.candidate(m)
		if !c.sought {
			c.sought, c.field = true, fmt.Sprintf("recipients[%d]", i)
		}
		if to.GetPerson() != "" {
			c.persons = append(c.persons, to.GetPerson())
		}
	}
}

// recipient is a member, and a person of it, that may be addressed.
func (w world) recipient(field string, to *pb.Recipient, source string) (*pb.Member, *rpc.Violation) {
	refuse := func(reason, ja, en string) (*pb.Member, *rpc.Violation) {
		v := violation(field, reason, ja, en)
		return nil, &v
	}
	m, active := w.dir.active(to.GetMember())
	switch {
	case to.GetMember() == source:
		return refuse("RECIPIENT_IS_SOURCE",
			fmt.Sprintf("宛先 %q は送り主自身です。宛先から外してください。", to.GetMember()),
			fmt.Sprintf("Recipient %q is the sender. Leave it out.", to.GetMember()))
	case m == nil || m.GetState() == pb.MemberState_MEMBER_STATE_REVOKED:
		return refuse("RECIPIENT_UNKNOWN",
			fmt.Sprintf("宛先 %q という会員はいません。会員一覧: minato members", to.GetMember()),
			fmt.Sprintf("There is no member %q. See: minato members", to.GetMember()))
	case !active:
		return refuse("RECIPIENT_NOT_JOINED",
			fmt.Sprintf("宛先 %q はまだ参加していません。参加してから送るか、ほかの方法で連絡してください。", to.GetMember()),
			fmt.Sprintf("Member %q has not joined yet. Send when it has, or use another channel.", to.GetMember()))
	}
	if to.GetPerson() != "" {
		if _, ok := person(m, to.GetPerson()); !ok {
			return refuse("PERSON_UNKNOWN",
				fmt.Sprintf("会員 %q に担当者 %q は登録されていません。会員一覧: minato members", m.GetId(), to.GetPerson()),
				fmt.Sprintf("Member %q has no person %q. See: minato members", m.GetId(), to.GetPerson()))
		}
	}
	return m, nil
}

// everybody takes in each member whom the label permits without being named:
// the community of GREEN, the whole port for CLEAR. What must not be
// distributed goes to those who are named, and to nobody else.
func (p *planning) everybody() {
	if p.label != tlp.Clear && p.label != tlp.Green {
		return
	}
	if p.plan.GetHandling().GetRestrictions().GetNoDistribution() {
		p.refuse("recipients", "NO_DISTRIBUTION_NEEDS_RECIPIENTS",
			"配布禁止の報告は、宛先を指定してください (--to 会員ID)。",
			"A report that must not be distributed needs recipients (--to MEMBER).")
		return
	}
	g := &pb.Ground{Rule: "EVERY_MEMBER", Basis: basis[p.label], Obligation: pb.Obligation_OBLIGATION_MAY}
	if p.label.NeedsCommunity() {
		g.Rule = "COMMUNITY"
	}
	for m := range p.w.others(p.source.GetId()) {
		// Who uses the service is told of its state by a step of its own (R18), not
		// of what happened.
		toldOfState := p.flow(m) == pb.Flow_FLOW_STATUS
		if !toldOfState && tlp.Permits(p.label, p.w.relation(m, p.o.GetCommunityId())) && p.underSecrecy(m) {
			c := p.candidate(m)
			c.grounds, c.everyone = append(c.grounds, g), true
		}
	}
}

// routes takes in the members that the rows of the policy name.
func (p *planning) routes() {
	for _, r := range p.w.policy.fire(p.o, p.source) {
		ground := &pb.Ground{Rule: r.id, Basis: r.sentence, Obligation: r.obligation}
		step := &pb.Step{Ground: ground, Act: r.act, Role: roleWord(r.to), Form: r.form}
		if len(r.to) == 0 { // the source's own people
			step.Members = []string{p.source.GetId()}
			p.plan.Steps = append(p.plan.Steps, step)
			continue
		}
		if r.act == pb.Act_ACT_TASK {
			p.tasks = append(p.tasks, r)
			continue
		}
		holders := p.w.holders(r, p.source.GetId())
		if r.identity == anonymised {
			// The way through the secretariat is a plan of its own.
			p.plan.Steps = append(p.plan.Steps, step)
			continue
		}
		asked := map[pb.Flow]*pb.Step{} // what they would get differs by flow
		for _, m := range holders {
			c := p.byID[m.GetId()]
			if r.act != pb.Act_ACT_AUTO && c != nil && !c.sought {
				c.grounds = append(c.grounds, ground) // it gets a copy with everybody else
				continue
			}
			if r.act != pb.Act_ACT_AUTO && c == nil {
				f := p.flow(m)
				if r.identity == named {
					f = pb.Flow_FLOW_AUTHORITY
				}
				if asked[f] == nil {
					asked[f] = proto.CloneOf(step)
					asked[f].Flow = f
					p.plan.Steps = append(p.plan.Steps, asked[f])
				}
				asked[f].Members = append(asked[f].Members, m.GetId())
				continue
			}
			c = p.candidate(m)
			c.grounds = append(c.grounds, ground)
			c.named = c.named || r.identity == named
			c.projected = c.projected || r.identity == projected
		}
		// Nobody here holds the role: it is told by other means, and a person has
		// to see to it.
		if len(holders) == 0 {
			p.plan.Steps = append(p.plan.Steps, step)
		}
	}
}

// duties names the laws that oblige the source. A legal duty ends anonymity
// (guideline 2.1.3: only what no law obliges to report may take the way of the
// secretariat).
func (p *planning) duties() {
	duties := p.w.policy.dutiesOf(p.o, p.source)
	if (len(duties) > 0 || p.o.Says(pb.Fact_FACT_LEGAL_DUTY)) && p.o.Says(pb.Fact_FACT_SECRETARIAT_ANON) {
		p.refuse("route_choice", "ANONYMITY_REFUSED",
			"法令で報告が義務付けられた事案は匿名にできません。直接 (DIRECT) の報告にしてください。",
			"What the law obliges to report cannot be anonymous. Report it directly (DIRECT).")
	}
	for _, d := range duties {
		step := &pb.Step{
			Ground: &pb.Ground{Rule: d.id, Basis: strings.TrimSpace(d.law + " " + d.article + ": " + d.sentence), Obligation: pb.Obligation_OBLIGATION_LAW},
			Act:    pb.Act_ACT_EXPORT, Role: roleWord(d.to), Form: d.form, Flow: pb.Flow_FLOW_AUTHORITY,
		}
		from := p.o.GetCreateTime().AsTime()
		if d.preliminary > 0 {
			step.PreliminaryDueTime = timestamppb.New(from.Add(d.preliminary))
		}
		if d.detailed > 0 {
			step.DetailedDueTime = timestamppb.New(from.Add(d.detailed))
		}
		for m := range p.w.others(p.source.GetId()) {
			if slices.Contains(d.to, m.GetRole()) {
				step.Members = append(step.Members, m.GetId())
			}
		}
		p.plan.Steps = append(p.plan.Steps, step)
	}
}

// decide holds every candidate against label, restrictions and secrecy.
func (p *planning) decide() {
	slices.SortFunc(p.candidates, func(a, b *candidate) int { return strings.Compare(a.member.GetId(), b.member.GetId()) })
	for _, c := range p.candidates {
		if len(c.grounds) == 0 {
			c.grounds = []*pb.Ground{{Rule: "ADDRESSED", Basis: basis[p.label], Obligation: pb.Obligation_OBLIGATION_MAY}}
		}
		slices.SortStableFunc(c.grounds, func(a, b *pb.Ground) int { return cmp.Compare(a.GetObligation(), b.GetObligation()) })
		if reason := p.outside(c); reason != "" {
			p.leaveOut(c, reason)
			continue
		}
		f := p.flow(c.member)
		switch {
		case c.named:
			f = pb.Flow_FLOW_AUTHORITY // a row asks for the whole report
		case !c.sought && !c.everyone && c.projected && f == pb.Flow_FLOW_AUTHORITY:
			f = pb.Flow_FLOW_PEER // every row asks for less than an authority may have
		}
		out := &pb.Copy{
			Member: c.member.GetId(), Name: c.member.GetName(), Grounds: c.grounds, Flow: f, Named: namedIn(f, p.o),
		}
		if p.label.NeedsPersons() {
			slices.Sort(c.persons)
			out.Persons = slices.Compact(c.persons)
		}
		for _, r := range p.tasks {
			if c.member.GetRole() == r.by {
				p.giveTask(out, p.task(r))
			}
		}
		p.plan.Copies = append(p.plan.Copies, out)
	}
}

// giveTask asks the holder of a copy to pass it on. Where only the source may do
// so, the source hears who will not be told.
func (p *planning) giveTask(to *pb.Copy, t *pb.Step) {
	if len(forwardable(p.label, p.label.NeedsSeal(), p.plan.GetHandling(), true, p.w.now)) == 0 {
		to.Tasks = append(to.Tasks, t)
		return
	}
	ja, en := omissionText("NOT_PASSED_ON", p.label)
	for _, id := range t.GetMembers() {
		if p.byID[id] == nil {
			p.plan.Omissions = append(p.plan.Omissions, &pb.Omission{
				Member: id, Name: p.w.dir.members[id].GetName(), Ground: t.GetGround(), Reason: "NOT_PASSED_ON", Japanese: ja, English: en,
			})
		}
	}
}

// task is a TASK row as the recipient sees it.
func (p *planning) task(r route) *pb.Step {
	s := &pb.Step{Ground: &pb.Ground{Rule: r.id, Basis: r.sentence, Obligation: r.obligation}, Act: r.act, Role: roleWord(r.to), Form: r.form}
	for _, m := range p.w.holders(r, p.source.GetId()) {
		s.Members = append(s.Members, m.GetId())
	}
	return s
}

// outside is why a candidate may not have a copy; empty when it may.
func (p *planning) outside(c *candidate) string {
	facts := p.w.relation(c.member, p.o.GetCommunityId()) | tlp.Addressed
	if len(c.persons) > 0 {
		facts |= tlp.NamedPerson
	}
	restricted := p.plan.GetHandling().GetRestrictions().GetNoDistribution() && !c.sought && !binds(c.grounds)
	switch {
	case !tlp.Permits(p.label, facts):
		return "OUTSIDE_LABEL"
	case !p.underSecrecy(c.member):
		return "OUTSIDE_SECRECY"
	case restricted:
		return "NO_DISTRIBUTION"
	case slices.ContainsFunc(p.parents, func(q parent) bool { return !q.mayHave(c.member, p.source, p.w) }):
		return "OUTSIDE_PARENT"
	}
	return ""
}

// leaveOut refuses the report where the source or a duty names the candidate,
// and notes the omission else.
func (p *planning) leaveOut(c *candidate, reason string) {
	id := c.member.GetId()
	switch {
	case c.sought && reason == "OUTSIDE_LABEL":
		p.refuse(c.field, "RECIPIENT_OUTSIDE_LABEL",
			fmt.Sprintf("宛先 %q は %s の範囲外です。宛先から外すか、範囲に含む表示 (例: TLP:AMBER) を選んでください。", id, p.label),
			fmt.Sprintf("Recipient %q is outside %s. Leave it out, or choose a label that covers it (e.g. TLP:AMBER).", id, p.label))
	case c.sought && reason == "OUTSIDE_PARENT":
		p.refuse(c.field, "RECIPIENT_OUTSIDE_PARENT",
			fmt.Sprintf("宛先 %q には、引用元を渡せません。宛先から外すか、引用元の情報連絡元に転送の許可を求めてください。", id),
			fmt.Sprintf("What this derives from may not go to %q. Leave it out, or ask the source of that report for permission to pass it on.", id))
	case c.sought:
		p.refuse(c.field, "RECIPIENT_OUTSIDE_SECRECY",
			fmt.Sprintf("宛先 %q は同じ守秘義務を負っていません。宛先から外してください。", id),
			fmt.Sprintf("Recipient %q is not under the same duty of secrecy. Leave it out.", id))
	case binds(c.grounds) && !p.reachedOnward(c.member):
		g := c.grounds[0]
		p.refuse("recipients", "MANDATORY_OUTSIDE_LABEL",
			fmt.Sprintf("%s (%s) への連絡が必要ですが、%s%s の範囲外です。担当者を名指しする (--to %s/担当者)、転送を許可する (--onward)、または表示を変える (--tlp) のいずれかにしてください。根拠: %s", c.member.GetName(), g.GetRule(), p.label, regimeWord(reason), id, g.GetBasis()),
			fmt.Sprintf("%s must be told (%s) but is outside %s%s. Name a person (--to %s/PERSON), permit passing on (--onward), or change the label (--tlp). Basis: %s", id, g.GetRule(), p.label, regimeWordEnglish(reason), id, g.GetBasis()))
	default:
		ja, en := omissionText(reason, p.label)
		p.plan.Omissions = append(p.plan.Omissions, &pb.Omission{
			Member: id, Name: c.member.GetName(), Ground: c.grounds[0], Reason: reason, Japanese: ja, English: en,
		})
	}
}

// reachedOnward reports whether the source permits somebody who gets a copy to
// pass the report on to m, and nothing else forbids that.
func (p *planning) reachedOnward(m *pb.Member) bool {
	if len(forwardable(p.label, p.label.NeedsSeal(), p.plan.GetHandling(), true, p.w.now)) > 0 {
		return false
	}
	for _, o := range p.o.GetOnwardPermissions() {
		if !means(o.GetTo(), m) {
			continue
		}
		for _, c := range p.candidates {
			if c.member != m && means(o.GetBy(), c.member) && p.outside(c) == "" {
				return true
			}
		}
	}
	return false
}

// means reports whether a word of an onward permission, a role or a member's
// id, means m. A word that is a role never means a member that has it for an id:
// who is called "police" is no police.
func means(word string, m *pb.Member) bool {
	if role, ok := pb.Role_value["ROLE_"+strings.ToUpper(word)]; ok {
		return role != 0 && m.GetRole() == pb.Role(role)
	}
	return word == m.GetId()
}

// underSecrecy reports whether m is under the duty of secrecy of the report.
func (p *planning) underSecrecy(m *pb.Member) bool {
	return secretTo(p.plan.GetHandling(), m)
}

func secretTo(h *pb.Handling, m *pb.Member) bool {
	s := h.GetSecrecyRegime()
	return s <= pb.SecrecyRegime_SECRECY_REGIME_NONE || slices.Contains(m.GetSecrecyRegimes(), s)
}

// flow is the kind of way to a member: what its copy holds follows from it.
func (p *planning) flow(m *pb.Member) pb.Flow {
	if p.o.Says(pb.Fact_FACT_NOTICE) && p.w.policy.issuers[p.source.GetRole()] {
		return pb.Flow_FLOW_AUTHORITY // it tells of nobody's damage
	}
	f := p.w.flowTo(m)
	if f == pb.Flow_FLOW_PEER && p.o.Says(pb.Fact_FACT_PEER_NAMED) && p.o.Says(pb.Fact_FACT_PEER_DAMAGE) {
		return pb.Flow_FLOW_AUTHORITY // the source agreed to both
	}
	return f
}

// flowTo is the kind of way to a member by its role.
func (w world) flowTo(m *pb.Member) pb.Flow {
	f, ok := w.policy.flows[m.GetRole()]
	if !ok {
		return pb.Flow_FLOW_PEER
	}
	if f == pb.Flow_FLOW_EXPERT && m.GetNda() {
		return pb.Flow_FLOW_EXPERT_NDA
	}
	return f
}

// namedIn reports whether a copy of a flow names the source.
func namedIn(f pb.Flow, o *pb.Outline) bool {
	switch f {
	case pb.Flow_FLOW_AUTHORITY, pb.Flow_FLOW_EXPERT_NDA, pb.Flow_FLOW_STATUS, pb.Flow_FLOW_PUBLIC:
		return true
	case pb.Flow_FLOW_PEER:
		return o.Says(pb.Fact_FACT_PEER_NAMED)
	}
	return false
}

// binds reports whether one of the grounds is a law or a must.
func binds(grounds []*pb.Ground) bool {
	return slices.ContainsFunc(grounds, func(g *pb.Ground) bool {
		return g.GetObligation() == pb.Obligation_OBLIGATION_LAW || g.GetObligation() == pb.Obligation_OBLIGATION_MUST
	})
}

func (p *planning) candidate(m *pb.Member) *candidate {
	c := p.byID[m.GetId()]
	if c == nil {
		c = &candidate{member: m}
		p.byID[m.GetId()] = c
		p.candidates = append(p.candidates, c)
	}
	return c
}

// others is every active member but one, by id.
func (w world) others(than string) iter.Seq[*pb.Member] {
	return func(yield func(*pb.Member) bool) {
		for _, m := range w.active {
			if m.GetId() != than && !yield(m) {
				return
			}
		}
	}
}

// holders is every active member with a role that a row names, but for the
// source. near leaves the offices that are competent for this port.
func (w world) holders(r route, source string) (all []*pb.Member) {
	for m := range w.others(source) {
		if !slices.Contains(r.to, m.GetRole()) {
			continue
		}
		if !r.near || len(m.GetJurisdictions()) == 0 || slices.Contains(m.GetJurisdictions(), w.dir.port) {
			all = append(all, m)
		}
	}
	return all
}

// relation is how a member stands to a report apart from being addressed.
func (w world) relation(m *pb.Member, community string) tlp.Relation {
	facts := tlp.Member
	if community != "" && w.belongs(m, community) {
		facts |= tlp.InCommunity
	}
	return facts
}

// belongs reports whether a member is in a community: by itself, or by one
// below it.
func (w world) belongs(m *pb.Member, community string) bool {
	for _, own := range m.GetCommunities() {
		if own == community || slices.Contains(w.policy.above(own), community) {
			return true
		}
	}
	return community == w.dir.port
}

// communityKnown reports whether the policy or any member names a community.
func (w world) communityKnown(id string) bool {
	return id == w.dir.port || w.dir.hasCommunity(id) ||
		slices.ContainsFunc(w.policy.communities, func(c community) bool { return c.id == id })
}

func checkCommunity(id string, source *pb.Member, w world) []rpc.Violation {
	if id == "" {
		return nil // check has said so already
	}
	if !w.communityKnown(id) {
		return []rpc.Violation{violation("community_id", "COMMUNITY_UNKNOWN",
			fmt.Sprintf("共有範囲 %q はありません。港全体なら %q です。", id, w.dir.port),
			fmt.Sprintf("There is no community %q. The whole port is %q.", id, w.dir.port))}
	}
	if !w.belongs(source, id) {
		return []rpc.Violation{violation("community_id", "COMMUNITY_NOT_YOURS",
			fmt.Sprintf("共有範囲 %q に属していないため、そこへは送れません。属する範囲: %v", id, source.GetCommunities()),
			fmt.Sprintf("You do not belong to community %q and cannot send to it. Yours: %v", id, source.GetCommunities()))}
	}
	return nil
}

func nobody(label tlp.Label, sought bool) rpc.Violation {
	if label.NeedsRecipients() && !sought {
		return violation("recipients", "RECIPIENTS_MISSING",
			fmt.Sprintf("%s には宛先の指定が必要です (--to 会員ID)。会員一覧: minato members", label),
			fmt.Sprintf("%s needs recipients (--to MEMBER). See: minato members", label))
	}
	return violation("recipients", "NOBODY_RECEIVES",
		"この宛先範囲には受け取れる会員がいません。会員一覧 (minato members) を確かめ、宛先 (--to) か公開範囲を見直してください。",
		"Nobody can receive this report. Look at `minato members` and change the recipients (--to) or the label.")
}

// roleWord writes roles as the policy does, such as "police".
func roleWord(roles []pb.Role) string {
	words := make([]string, len(roles))
	for i, r := range roles {
		words[i] = strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_"))
	}
	return strings.Join(words, ",")
}

func regimeWord(reason string) string {
	switch reason {
	case "OUTSIDE_SECRECY":
		return "・守秘義務"
	case "OUTSIDE_PARENT":
		return "・引用元"
	}
	return ""
}

func regimeWordEnglish(reason string) string {
	switch reason {
	case "OUTSIDE_SECRECY":
		return " or the duty of secrecy"
	case "OUTSIDE_PARENT":
		return " or what it derives from"
	}
	return ""
}

// omissionText says why somebody is left out and what would change it.
func omissionText(reason string, label tlp.Label) (ja, en string) {
	switch reason {
	case "OUTSIDE_LABEL":
		return fmt.Sprintf("%s の範囲外です。渡すには、宛先に加えるか表示を変えてください。", label),
			fmt.Sprintf("It is outside %s. To give it a copy, address it or change the label.", label)
	case "OUTSIDE_SECRECY":
		return "同じ守秘義務を負っていません。", "It is not under the same duty of secrecy."
	case "OUTSIDE_PARENT":
		return "引用元を渡せない相手です。", "What this derives from may not go to it."
	case "NO_DISTRIBUTION":
		return "配布禁止のため、名指しした宛先だけに渡します。渡すには --to で指定してください。",
			"The report must not be distributed: only those named get it. Name it with --to."
	case "NOT_PASSED_ON":
		return "この表示と取扱制限では、受け手は渡せません。必要なら、自分で宛先に加えてください。",
			"Under this label and these restrictions a recipient cannot pass it on. Address it yourself if it is needed."
	case "NOT_ADDRESSED":
		return "宛先になく、どの規則にも当たりません。", "It was not addressed, and no rule names it."
	case "IS_SOURCE":
		return "情報連絡元です。", "It is the source."
	case "NOT_A_MEMBER_THEN":
		return "決定の時点では参加していませんでした。", "It was not a member when this was decided."
	case "REVOKED_THEN":
		return "決定の時点で参加が取り消されていました。", "It had been revoked when this was decided."
	}
	return reason, reason
}

// basis names, for each label, what the copies of a plan rest on.
var basis = map[tlp.Label]string{
	tlp.Clear:       "FIRST TLP 2.0 TLP:CLEAR",
	tlp.Green:       "FIRST TLP 2.0 TLP:GREEN",
	tlp.Amber:       "FIRST TLP 2.0 TLP:AMBER; 港湾分野ガイドライン(第2版) 2.1.3",
	tlp.AmberStrict: "FIRST TLP 2.0 TLP:AMBER+STRICT; 港湾分野ガイドライン(第2版) 2.1.3",
	tlp.Red:         "FIRST TLP 2.0 TLP:RED",
}
