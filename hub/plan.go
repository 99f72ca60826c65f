package hub

import (
	"fmt"
	"slices"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// plan decides who gets which copy of a checked report and by which rule, or
// says everything that stands against it. It is the one gate: delivery carries
// plans out and decides nothing, and the preview is this same function.
//
// An addressee whom the label excludes is an error before anything is sent,
// never a silent drop.
func plan(r *pb.Report, source string, d *directory) (*pb.Plan, []rpc.Violation) {
	label := check.Label(r)
	var bad []rpc.Violation
	if label.NeedsCommunity() {
		bad = append(bad, checkCommunity(r.GetCommunityId(), source, d)...)
	}
	var copies []*pb.Copy
	if len(r.GetRecipients()) > 0 {
		addressed, more := addressed(r, label, source, d)
		copies, bad = addressed, append(bad, more...)
	} else {
		copies = everybody(r, label, source, d)
	}
	if len(bad) > 0 {
		return nil, bad
	}
	if len(copies) == 0 {
		return nil, []rpc.Violation{violation("recipients", "NOBODY_RECEIVES",
			"この宛先範囲には受け取れる会員がいません。会員一覧 (minato members) を確かめ、宛先 (--to) か公開範囲を見直してください。",
			"Nobody can receive this report. Look at `minato members` and change the recipients (--to) or the label.")}
	}
	return &pb.Plan{DirectoryRevision: d.revision, Copies: copies}, nil
}

// addressed plans a copy for each member that the report names.
func addressed(r *pb.Report, label tlp.Label, source string, d *directory) (copies []*pb.Copy, bad []rpc.Violation) {
	persons := map[string][]string{}
	for i, to := range r.GetRecipients() {
		field := fmt.Sprintf("recipients[%d]", i)
		m, active := d.active(to.GetMember())
		switch {
		case to.GetMember() == source:
			bad = append(bad, violation(field, "RECIPIENT_IS_SOURCE",
				fmt.Sprintf("宛先 %q は送り主自身です。宛先から外してください。", to.GetMember()),
				fmt.Sprintf("Recipient %q is the sender. Leave it out.", to.GetMember())))
			continue
		case m == nil || m.GetState() == pb.MemberState_MEMBER_STATE_REVOKED:
			bad = append(bad, violation(field, "RECIPIENT_UNKNOWN",
				fmt.Sprintf("宛先 %q という会員はいません。会員一覧: minato members", to.GetMember()),
				fmt.Sprintf("There is no member %q. See: minato members", to.GetMember())))
			continue
		case !active:
			bad = append(bad, violation(field, "RECIPIENT_NOT_JOINED",
				fmt.Sprintf("宛先 %q はまだ参加していません。参加してから送るか、ほかの方法で連絡してください。", to.GetMember()),
				fmt.Sprintf("Member %q has not joined yet. Send when it has, or use another channel.", to.GetMember())))
			continue
		}
		facts := relation(m, r) | tlp.Addressed
		if to.GetPerson() != "" {
			if _, ok := person(m, to.GetPerson()); !ok {
				bad = append(bad, violation(field, "PERSON_UNKNOWN",
					fmt.Sprintf("会員 %q に担当者 %q は登録されていません。会員一覧: minato members", m.GetId(), to.GetPerson()),
					fmt.Sprintf("Member %q has no person %q. See: minato members", m.GetId(), to.GetPerson())))
				continue
			}
			facts |= tlp.NamedPerson
		}
		if !tlp.Permits(label, facts) {
			bad = append(bad, violation(field, "RECIPIENT_OUTSIDE_LABEL",
				fmt.Sprintf("宛先 %q は %s の範囲外です。宛先から外すか、範囲に含む表示 (例: TLP:AMBER) を選んでください。", m.GetId(), label),
				fmt.Sprintf("Recipient %q is outside %s. Leave it out, or choose a label that covers it (e.g. TLP:AMBER).", m.GetId(), label)))
			continue
		}
		persons[m.GetId()] = append(persons[m.GetId()], to.GetPerson())
	}
	for id, named := range persons {
		c := &pb.Copy{Member: id, Name: d.members[id].GetName(), Named: true, Grounds: []*pb.Ground{{Rule: "ADDRESSED", Basis: basis[label]}}}
		if label.NeedsPersons() {
			slices.Sort(named)
			c.Persons = slices.Compact(named)
		}
		copies = append(copies, c)
	}
	slices.SortFunc(copies, byMember)
	return copies, bad
}

// everybody plans a copy for each member whom the label permits without being
// named: the community of GREEN, the whole port for CLEAR.
func everybody(r *pb.Report, label tlp.Label, source string, d *directory) (copies []*pb.Copy) {
	for _, m := range d.sorted() {
		if _, active := d.active(m.GetId()); !active || m.GetId() == source || !tlp.Permits(label, relation(m, r)) {
			continue
		}
		rule := "EVERY_MEMBER"
		if label.NeedsCommunity() {
			rule = "COMMUNITY"
		}
		copies = append(copies, &pb.Copy{Member: m.GetId(), Name: m.GetName(), Named: true, Grounds: []*pb.Ground{{Rule: rule, Basis: basis[label]}}})
	}
	return copies
}

// relation is how a member stands to a report apart from being addressed.
func relation(m *pb.Member, r *pb.Report) tlp.Relation {
	facts := tlp.Member
	if slices.Contains(m.GetCommunities(), r.GetCommunityId()) {
		facts |= tlp.InCommunity
	}
	return facts
}

func checkCommunity(id, source string, d *directory) []rpc.Violation {
	if id == "" {
		return nil // check has said so already
	}
	if !d.hasCommunity(id) {
		return []rpc.Violation{violation("community_id", "COMMUNITY_UNKNOWN",
			fmt.Sprintf("共有範囲 %q はありません。港全体なら %q です。", id, d.port),
			fmt.Sprintf("There is no community %q. The whole port is %q.", id, d.port))}
	}
	if m := d.members[source]; !slices.Contains(m.GetCommunities(), id) {
		return []rpc.Violation{violation("community_id", "COMMUNITY_NOT_YOURS",
			fmt.Sprintf("共有範囲 %q に属していないため、そこへは送れません。属する範囲: %v", id, m.GetCommunities()),
			fmt.Sprintf("You do not belong to community %q and cannot send to it. Yours: %v", id, m.GetCommunities()))}
	}
	return nil
}

func byMember(a, b *pb.Copy) int {
	if a.GetMember() < b.GetMember() {
		return -1
	}
	return 1
}

// basis names, for each label, what the copies of a plan rest on.
var basis = map[tlp.Label]string{
	tlp.Clear:       "FIRST TLP 2.0 TLP:CLEAR",
	tlp.Green:       "FIRST TLP 2.0 TLP:GREEN",
	tlp.Amber:       "FIRST TLP 2.0 TLP:AMBER; 港湾分野ガイドライン(第2版) 2.1.3",
	tlp.AmberStrict: "FIRST TLP 2.0 TLP:AMBER+STRICT; 港湾分野ガイドライン(第2版) 2.1.3",
	tlp.Red:         "FIRST TLP 2.0 TLP:RED",
}
