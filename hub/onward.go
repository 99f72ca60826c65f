package hub

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// What is decided about a report after it was accepted: passing it on, giving
// it to a member that joined later, and saying why somebody got nothing. These
// are pure, as plan is, and ask the same functions.

// onward decides who gets a report that a holder passes on. held is the
// holder's own copy, nil when the holder is the source. handling is that in
// force now, had tells who has a copy already as far as the holder may know: the
// source knows of all, a recipient of those to whom it gave one itself.
//
// The source may add whom its label permits. A recipient may pass on
// TLP:AMBER to its registered clients (FIRST TLP 2.0), TLP:GREEN inside the
// community, TLP:CLEAR to everybody, and beyond that to whom the source
// permitted (onward_permissions) or the policy asks it to tell (its tasks).
func onward(o *pb.Outline, h *pb.Handling, source, by *pb.Member, held *pb.Copy, to []*pb.Recipient, had func(*pb.Recipient) bool, w world) (*pb.Plan, []rpc.Violation) {
	label := check.Label(h.GetTlp())
	bad := forwardable(label, check.Label(o.GetTlp()).NeedsSeal(), h, held != nil, w.now)
	p := &pb.Plan{DirectoryRevision: w.dir.revision, PolicyVersion: w.policy.version, DecideTime: timestamppb.New(w.now), Handling: h}
	copies := map[string]*pb.Copy{}
	for i, r := range to {
		field := fmt.Sprintf("recipients[%d]", i)
		// A recipient learns neither whose report it is nor who else has it.
		asker := ""
		if held == nil {
			asker = source.GetId()
		}
		m, wrong := w.recipient(field, r, asker)
		if wrong != nil {
			bad = append(bad, *wrong)
			continue
		}
		if label.NeedsPersons() != (r.GetPerson() != "") {
			bad = append(bad, violation(field, "RED_NEEDS_PERSONS",
				"担当者の名指し (会員/担当者) は、TLP:RED のときに、そのときだけ必要です。",
				"A person (MEMBER/PERSON) is named with TLP:RED, and with TLP:RED only."))
			continue
		}
		if m.GetId() == by.GetId() || had(r) {
			bad = append(bad, violation(field, "RECIPIENT_HAS_IT",
				fmt.Sprintf("宛先 %q には既に渡っています。宛先から外してください。", m.GetId()),
				fmt.Sprintf("Recipient %q has it already. Leave it out.", m.GetId())))
			continue
		}
		ground := mayPass(o, h, by, held, m, w)
		if ground == nil || !secretTo(h, m) {
			bad = append(bad, notYours(field, label, m.GetId(), held == nil))
			continue
		}
		c := copies[m.GetId()]
		if c == nil {
			c = &pb.Copy{Member: m.GetId(), Name: m.GetName(), Grounds: []*pb.Ground{ground}, Flow: onwardFlow(o, h, source, held, m, w)}
			c.Named = namedIn(c.Flow, o) && (held == nil || held.GetNamed())
			if held != nil {
				c.ForwardedBy = by.GetId()
			}
			copies[m.GetId()] = c
		}
		if r.GetPerson() != "" {
			c.Persons = append(c.Persons, r.GetPerson())
		}
	}
	if len(to) == 0 {
		bad = append(bad, violation("recipients", "RECIPIENTS_MISSING", "宛先を指定してください (--to 会員ID)。", "Name the recipients (--to MEMBER)."))
	}
	if len(bad) > 0 {
		return nil, bad
	}
	for _, c := range copies {
		slices.Sort(c.Persons)
		c.Persons = slices.Compact(c.Persons)
		p.Copies = append(p.Copies, c)
	}
	slices.SortFunc(p.Copies, func(a, b *pb.Copy) int { return strings.Compare(a.GetMember(), b.GetMember()) })
	return p, nil
}

// forwardable says what forbids passing a report on, whoever it is for. Of what
// came sealed, also under a wider label since, only its source has the keys.
func forwardable(label tlp.Label, sealed bool, h *pb.Handling, byRecipient bool, now time.Time) (bad []rpc.Violation) {
	r := h.GetRestrictions()
	if e := r.GetExpireTime(); e != nil && !now.Before(e.AsTime()) {
		bad = append(bad, violation("restrictions.expire_time", "EXPIRED",
			"この報告は有効期限を過ぎています。渡せません。", "The report has expired and cannot be passed on."))
	}
	if !byRecipient {
		return bad
	}
	if sealed || label.NeedsSeal() {
		bad = append(bad, violation("tlp", "ONLY_THE_SOURCE_FORWARDS",
			fmt.Sprintf("封をして届いた報告を渡せるのは情報連絡元だけです (現在の表示: %s)。情報連絡元に依頼してください。", label),
			fmt.Sprintf("Only its source passes on a report that came sealed (its label now: %s). Ask the source.", label)))
	}
	for _, rule := range []struct {
		set    bool
		ja, en string
	}{
		{r.GetNoCopy(), "複製禁止", "no copies"}, {r.GetNoExport(), "持出禁止", "not to be taken out"},
		{r.GetNoDistribution(), "配布禁止", "no distribution"},
		{h.GetSecrecyRegime() > pb.SecrecyRegime_SECRECY_REGIME_NONE, "法令・契約による守秘", "a duty of secrecy"},
	} {
		if rule.set {
			bad = append(bad, violation("restrictions", "FORWARD_FORBIDDEN",
				fmt.Sprintf("この報告には「%s」の指定があり、渡せません。必要なら情報連絡元に依頼してください。", rule.ja),
				fmt.Sprintf("The report is restricted (%s) and cannot be passed on. Ask its source if it is needed.", rule.en)))
		}
	}
	return bad
}

// mayPass is the ground on which by may give m a copy; nil when there is none.
func mayPass(o *pb.Outline, h *pb.Handling, by *pb.Member, held *pb.Copy, m *pb.Member, w world) *pb.Ground {
	label := check.Label(h.GetTlp())
	facts := w.relation(m, h.GetCommunityId())
	may := func(rule, basis string, more tlp.Relation) *pb.Ground {
		if !tlp.Permits(label, facts|more) {
			return nil
		}
		return &pb.Ground{Rule: rule, Basis: basis, Obligation: pb.Obligation_OBLIGATION_MAY}
	}
	if held == nil { // the source; a named person was required above
		more := tlp.Addressed
		if label.NeedsPersons() {
			more |= tlp.NamedPerson
		}
		return may("ADDRESSED", basis[label], more)
	}
	for _, t := range held.GetTasks() {
		if slices.Contains(t.GetMembers(), m.GetId()) || w.asks(t.GetGround().GetRule(), m) {
			if g := may(t.GetGround().GetRule(), t.GetGround().GetBasis(), tlp.Addressed); g != nil {
				g.Obligation = t.GetGround().GetObligation()
				return g
			}
		}
	}
	for _, permission := range o.GetOnwardPermissions() {
		if means(permission.GetBy(), by) && means(permission.GetTo(), m) {
			// The source's own permission reaches beyond its label; labels under
			// which only the source passes on were refused before.
			return &pb.Ground{
				Rule: "ONWARD_PERMISSION", Basis: "情報連絡元の事前許可 (" + permission.GetBy() + " → " + permission.GetTo() + ")", Obligation: pb.Obligation_OBLIGATION_MAY,
			}
		}
	}
	// Clients of an addressed organisation, not their clients in turn.
	if slices.Contains(by.GetClients(), m.GetId()) && !slices.ContainsFunc(held.GetGrounds(), func(g *pb.Ground) bool { return g.GetRule() == "CLIENT" }) {
		if g := may("CLIENT", basis[label], tlp.ClientOfAddressed); g != nil {
			return g
		}
	}
	return may("WITHIN_LABEL", basis[label], 0)
}

// asks reports whether a TASK row in force now means m, which may have joined
// since the task was given.
func (w world) asks(rule string, m *pb.Member) bool {
	return slices.ContainsFunc(w.policy.routes, func(r route) bool {
		return r.id == rule && r.act == pb.Act_ACT_TASK && w.policy.uses(&r) && slices.Contains(w.holders(r, ""), m)
	})
}

// onwardFlow is the way to m, which never lets more through than the holder's
// own copy has. Under the Chatham House Rule a recipient passes on nothing that
// names the source.
func onwardFlow(o *pb.Outline, h *pb.Handling, source *pb.Member, held *pb.Copy, m *pb.Member, w world) pb.Flow {
	p := planning{o: o, w: w, source: source}
	f := p.flow(m)
	switch {
	case held == nil:
		return f
	case h.GetRestrictions().GetChathamHouse():
		return pb.Flow_FLOW_ANONYMOUS
	case f == pb.Flow_FLOW_AUTHORITY:
		return held.GetFlow() // as the holder has it
	}
	return f
}

func notYours(field string, label tlp.Label, id string, bySource bool) rpc.Violation {
	if bySource {
		return violation(field, "RECIPIENT_OUTSIDE_LABEL",
			fmt.Sprintf("宛先 %q は %s の範囲外か、同じ守秘義務を負っていません。表示を変えてから渡してください (minato report relabel)。", id, label),
			fmt.Sprintf("Recipient %q is outside %s or not under the same duty of secrecy. Relabel the report first (minato report relabel).", id, label))
	}
	return violation(field, "NOT_YOURS_TO_GIVE",
		fmt.Sprintf("%s の報告を %q に渡すことは許されていません。渡せるのは、自組織の登録済みの顧客、情報連絡元が転送を許可した相手、規則が求める相手だけです。情報連絡元に依頼してください。", label, id),
		fmt.Sprintf("You may not give a report under %s to %q: only to your registered clients, to whom its source permitted, or to whom a rule asks you to tell. Ask the source.", label, id))
}

// backlog decides whether a member that has just joined gets a report that was
// decided before: TLP:CLEAR and TLP:GREEN within the window of the policy, when
// the source named nobody. nil when it does not.
func backlog(o *pb.Outline, h *pb.Handling, source string, m *pb.Member, accepted time.Time, w world) *pb.Plan {
	label := check.Label(h.GetTlp())
	window := w.policy.backlog[label]
	r := h.GetRestrictions()
	switch {
	case label != tlp.Clear && label != tlp.Green, window <= 0, accepted.Before(w.now.Add(-window)), m.GetId() == source,
		len(o.GetRecipients()) > 0, r.GetNoDistribution(), !secretTo(h, m), !tlp.Permits(label, w.relation(m, h.GetCommunityId())),
		r.GetExpireTime() != nil && !w.now.Before(r.GetExpireTime().AsTime()):
		return nil
	}
	from := w.dir.members[source]
	p := planning{o: o, w: w, source: from}
	f := p.flow(m)
	if f == pb.Flow_FLOW_STATUS {
		return nil // as everybody: those who use the service hear by a step of its own
	}
	return &pb.Plan{
		DirectoryRevision: w.dir.revision, PolicyVersion: w.policy.version, DecideTime: timestamppb.New(w.now), Handling: h,
		Copies: []*pb.Copy{{
			Member: m.GetId(), Name: m.GetName(), Flow: f, Named: namedIn(f, o),
			Grounds: []*pb.Ground{{Rule: "BACKLOG", Basis: basis[label], Obligation: pb.Obligation_OBLIGATION_MAY}},
		}},
	}
}

// leftOut is why a member has no copy of a report, worked out in the world of
// its decision.
func leftOut(o *pb.Outline, source string, parents []*pb.Handling, m string, w world) []*pb.Omission {
	known, active := w.dir.active(m)
	because := func(reason string) []*pb.Omission {
		ja, en := omissionText(reason, check.Label(o.GetTlp()))
		return []*pb.Omission{{Member: m, Name: known.GetName(), Reason: reason, Japanese: ja, English: en}}
	}
	switch {
	case m == source:
		return because("IS_SOURCE")
	case known.GetState() == pb.MemberState_MEMBER_STATE_REVOKED:
		return because("REVOKED_THEN")
	case !active:
		return because("NOT_A_MEMBER_THEN")
	}
	decided, _ := plan(o, source, parents, w)
	var all []*pb.Omission
	for _, omission := range decided.GetOmissions() {
		if omission.GetMember() == m {
			all = append(all, omission)
		}
	}
	if len(all) > 0 {
		return all
	}
	if len(o.GetRecipients()) == 0 && !tlp.Permits(check.Label(o.GetTlp()), w.relation(known, o.GetCommunityId())) {
		return because("OUTSIDE_LABEL")
	}
	if !secretTo(decided.GetHandling(), known) {
		return because("OUTSIDE_SECRECY")
	}
	return because("NOT_ADDRESSED")
}
