package hub

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"minato.example/internal/ca"
	"minato.example/internal/check"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// maxYearsAhead bounds the date from which a change is in force.
const maxYearsAhead = 5

// SetMember replaces what the port knows of a member, at once or from a date
// on. The change is durable when SetMember returns.
func (h *Hub) SetMember(ctx context.Context, req *pb.SetMemberRequest) (*pb.SetMemberResponse, error) {
	now := time.Now()
	change := &pb.DirectoryChange{}
	effective := now
	if t := req.GetEffectiveTime(); t != nil {
		if t.CheckValid() != nil || t.AsTime().After(now.AddDate(maxYearsAhead, 0, 0)) {
			return nil, refusal([]rpc.Violation{violation("effective_time", "EFFECTIVE_TIME_INVALID",
				fmt.Sprintf("有効日は %d 年以内の日付にしてください。例: --effective 2027-04-01", maxYearsAhead),
				fmt.Sprintf("The effective date must be within %d years. For example: --effective 2027-04-01", maxYearsAhead))})
		}
		if t.AsTime().After(now) {
			change.EffectiveTime, effective = t, t.AsTime()
		}
	}
	set := tidy(req.GetMember())
	err := h.change(ctx, func(d *directory) (*pb.DirectoryChange, error) {
		m, ok := d.members[set.GetMember()]
		switch {
		case !ok:
			return nil, rpc.Refuse(codes.NotFound, "MEMBER_UNKNOWN", "member",
				fmt.Sprintf("会員 %q はいません。一覧: minato hub members", short(set.GetMember())),
				fmt.Sprintf("There is no member %q. See: minato hub members", short(set.GetMember())))
		case m.GetState() == pb.MemberState_MEMBER_STATE_REVOKED:
			return nil, rpc.Refuse(codes.FailedPrecondition, "MEMBER_REVOKED", "member",
				fmt.Sprintf("会員 %q は取り消されています。戻すときは新しい ID で招待してください。", m.GetId()),
				fmt.Sprintf("Member %q has been revoked. Invite it again under a new id.", m.GetId()))
		}
		if bad := checkMember(set, d.at(effective), effective); len(bad) > 0 {
			return nil, refusal(bad)
		}
		change.Change = &pb.DirectoryChange_MemberSet{MemberSet: set}
		return change, nil
	})
	if err != nil {
		return nil, err
	}
	h.log.InfoContext(ctx, "member set", "member", set.GetMember(), "effective", effective)
	return &pb.SetMemberResponse{}, nil
}

// tidy is the same set of facts with its lists sorted and without repeats.
func tidy(set *pb.MemberSet) *pb.MemberSet {
	list := func(all []string) []string {
		all = slices.Clone(all)
		slices.Sort(all)
		return slices.Compact(all)
	}
	regimes := slices.Clone(set.GetSecrecyRegimes())
	slices.Sort(regimes)
	return &pb.MemberSet{
		Member: set.GetMember(), Name: set.GetName(), Role: set.GetRole(), Nda: set.GetNda(),
		Communities: list(set.GetCommunities()), Jurisdictions: list(set.GetJurisdictions()),
		Designations: list(set.GetDesignations()), Clients: list(set.GetClients()), SecrecyRegimes: slices.Compact(regimes),
	}
}

// checkMember finds what is wrong with the facts of a member, held against the
// directory on the day from which they are in force.
func checkMember(set *pb.MemberSet, d *directory, effective time.Time) []rpc.Violation {
	bad := check.Message("", set.ProtoReflect(), false)
	if set.GetName() == "" || len(set.GetName()) > 200 {
		bad = append(bad, violation("name", "NAME_INVALID", "名称は1から200バイトにしてください (--name)。", "The name must have 1 to 200 bytes (--name)."))
	}
	if set.GetRole() == pb.Role_ROLE_UNSPECIFIED {
		bad = append(bad, violation("role", "ROLE_MISSING", "役割を指定してください (--role)。", "Give a role (--role)."))
	}
	known := d.policy.at(effective)
	for _, list := range []struct {
		field  string
		values []string
		check  func(id string) (reason, ja, en string)
	}{
		{"communities", set.GetCommunities(), func(id string) (string, string, string) {
			if id == d.port || known.hasCommunity(id) || d.hasCommunity(id) {
				return "", "", ""
			}
			return "COMMUNITY_UNKNOWN",
				fmt.Sprintf("コミュニティ %q はありません。先に方針に加えてください: minato hub policy show", id),
				fmt.Sprintf("There is no community %q. Add it to the policy first: minato hub policy show", id)
		}},
		{"jurisdictions", set.GetJurisdictions(), nil},
		{"designations", set.GetDesignations(), nil},
		{"clients", set.GetClients(), func(id string) (string, string, string) {
			if id == set.GetMember() {
				return "CLIENT_SELF", "会員が自分自身の顧客になることはできません。--client から除いてください。", "A member cannot be its own client. Take it out of --client."
			}
			if _, ok := d.members[id]; ok {
				return "", "", ""
			}
			return "CLIENT_UNKNOWN",
				fmt.Sprintf("会員 %q はいません。顧客も会員として招いてから登録してください: minato hub invite", id),
				fmt.Sprintf("There is no member %q. A client must be a member too; invite it first: minato hub invite", id)
		}},
	} {
		for i, id := range list.values {
			field := fmt.Sprintf("%s[%d]", list.field, i)
			if !ca.ValidID(id) {
				bad = append(bad, violation(field, "ID_INVALID",
					fmt.Sprintf("ID %q は使えません。a-z, 0-9, ハイフンで1～63文字にしてください。", short(id)),
					fmt.Sprintf("Id %q cannot be used: 1 to 63 characters of a-z, 0-9 and hyphen.", short(id))))
			} else if list.check != nil {
				if reason, ja, en := list.check(id); reason != "" {
					bad = append(bad, violation(field, reason, ja, en))
				}
			}
		}
	}
	return bad
}
