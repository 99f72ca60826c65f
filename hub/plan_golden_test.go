package hub

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// aPort is a port with everybody in it, as one line a member: id, role,
// communities, and more.
const aPort = `
terminal-a       operator              tos        designated
terminal-b       operator              tos        clients=carrier
terminal-c       operator              terminals
warehouse        operator              -
carrier          operator              -
port-company     port_company          terminals
port-authority   port_authority        -
transport        regional_transport    -          port=aport
transport-north  regional_transport    -          port=elsewhere
development      regional_development  -          port=aport
development-nth  regional_development  -          port=elsewhere
ministry         ministry              -
cabinet-cyber    cabinet_cyber         -
cabinet-crisis   cabinet_crisis        -
secretariat      secretariat           terminals
council          council               -
police           police                -          port=aport
police-north     police                -          port=elsewhere
coast-guard      coast_guard           -
jpcert           expert                -
vendor           expert                -          nda
isac             isac                  -
truckers         users                 -
newcomer         operator              tos        invited
former           operator              tos        revoked
`

func thePort() *directory {
	d := newDirectory()
	d.port, d.revision = "aport", 12
	p := *builtIn()
	p.communities = []community{{id: "terminals"}, {id: "tos", parent: "terminals"}}
	d.policy = &p
	for line := range strings.Lines(strings.TrimSpace(aPort)) {
		f := strings.Fields(line)
		m := &pb.Member{
			Id: f[0], Name: f[0], Role: pb.Role(pb.Role_value["ROLE_"+strings.ToUpper(f[1])]), State: pb.MemberState_MEMBER_STATE_ACTIVE,
			Communities: []string{"aport"}, Profile: &pb.Profile{Persons: []*pb.Person{{Id: "chief", Name: "長"}}},
		}
		if f[2] != "-" {
			m.Communities = []string{"aport", f[2]}
		}
		for _, more := range f[3:] {
			key, value, _ := strings.Cut(more, "=")
			switch key {
			case "port":
				m.Jurisdictions = []string{value}
			case "clients":
				m.Clients = []string{value}
			case "nda":
				m.Nda = true
			case "designated":
				m.Designations = []string{"special-infrastructure-operator"}
			case "invited":
				m.State = pb.MemberState_MEMBER_STATE_INVITED
			case "revoked":
				m.State = pb.MemberState_MEMBER_STATE_REVOKED
			}
		}
		d.members[m.GetId()] = m
	}
	return d
}

// story is what happens, once a file of testdata/plan; told tells it under
// several labels.
type story struct {
	file  string
	about string
	from  string
	says  string // facts
	told  []telling
}

// telling is a label and what else the source decides.
type telling struct {
	label  string
	to     string
	change func(*pb.Outline, *directory)
	at     time.Time // zero: oracleNow
}

var stories = []story{
	{"ransomware", "暗号化され TOS が停止した", "terminal-a", "business_impact attack users_affected tos technique incident voluntary direct cabinet_consent", []telling{
		{label: "CLEAR"},
		{label: "GREEN aport"},
		{label: "GREEN terminals"},
		{label: "AMBER", to: "terminal-b police jpcert"},
		{label: "AMBER"},
		{label: "STRICT", to: "terminal-b vendor"},
		{label: "RED", to: "port-authority/chief transport/chief terminal-b/chief"},
		{label: "RED", to: "terminal-b/chief"},
		{label: "AMBER", to: "terminal-b truckers isac", change: func(o *pb.Outline, _ *directory) {
			o.Facts = append(o.Facts, pb.Fact_FACT_PEER_NAMED, pb.Fact_FACT_PEER_DAMAGE)
		}},
		{label: "AMBER", to: "terminal-b", change: func(o *pb.Outline, _ *directory) { o.Restrictions = &pb.Restrictions{NoDistribution: true} }},
		{label: "GREEN terminals", change: func(o *pb.Outline, _ *directory) {
			o.OnwardPermissions = []*pb.OnwardPermission{{By: "secretariat", To: "port_authority"}, {By: "secretariat", To: "transport"}}
		}},
		{label: "AMBER", to: "port-authority terminal-b", change: func(o *pb.Outline, d *directory) {
			o.SecrecyRegime = contract
			d.members["terminal-b"].SecrecyRegimes = []pb.SecrecyRegime{contract}
		}},
	}},
	{"sharing", "同業への共有だけ", "terminal-a", "incident direct", []telling{{label: "AMBER", to: "terminal-b"}, {label: "GREEN tos"}}},
	{"near-miss", "TOS のヒヤリハット", "terminal-a", "near_miss tos incident direct", []telling{{label: "AMBER", to: "terminal-b"}, {label: "GREEN terminals", to: "terminal-c"}}},
	{"legal-duty", "法令による報告、個人情報の漏えい", "terminal-a", "personal_data incident legal_duty direct", []telling{
		{label: "AMBER", to: "ministry"},
		{label: "AMBER", to: "secretariat", change: func(o *pb.Outline, _ *directory) { o.Facts = append(o.Facts, pb.Fact_FACT_SECRETARIAT_ANON) }},
	}},
	{"consult", "該当するか分からない", "terminal-a", "incident unsure_consult direct", []telling{{label: "AMBER", to: "transport"}, {label: "AMBER", to: "ministry"}}},
	{"anonymous", "セプター事務局経由、匿名", "terminal-b", "incident unsure_consult secretariat_anon", []telling{{label: "AMBER", to: "terminal-c"}}},
	{"designated", "特定重要電子計算機", "terminal-a", "designated_computer incident direct", []telling{
		{label: "AMBER", to: "ministry"},
		{label: "AMBER", to: "ministry", at: time.Date(2026, 9, 30, 14, 59, 59, 0, time.UTC)}, // the day before, in Japan
	}},
	{"undesignated", "指定されていない事業者", "terminal-b", "designated_computer incident direct", []telling{{label: "AMBER", to: "ministry"}}},
	{"cabinet-notice", "国家サイバー統括室からの注意喚起", "cabinet-cyber", "technique notice direct", []telling{{label: "AMBER"}, {label: "GREEN aport"}, {label: "CLEAR"}}},
	{"operator-notice", "事業者の注意喚起", "terminal-a", "personal_data technique notice direct", []telling{{label: "GREEN aport"}}},
	{"secretariat", "セプター事務局から", "secretariat", "technique notice direct", []telling{{label: "AMBER", to: "council ministry terminal-b"}}},
	{"council", "セプターカウンシルから", "council", "notice direct", []telling{{label: "AMBER", to: "secretariat terminal-a"}}},
	{"port-authority", "港湾管理者の事案", "port-authority", "business_impact attack incident serious_impact direct", []telling{{label: "AMBER", to: "isac"}}},
	{"large-scale", "大規模障害時の所管省庁", "ministry", "incident direct", []telling{
		{label: "AMBER", to: "port-authority"},
		{label: "AMBER", to: "port-authority", change: inLargeScale},
	}},
	{"large-scale-operator", "大規模障害時の事業者", "terminal-a", "incident direct serious_impact cabinet_consent", []telling{
		{label: "AMBER", to: "ministry"},
		{label: "AMBER", to: "ministry", change: inLargeScale},
	}},
}

func inLargeScale(_ *pb.Outline, d *directory) {
	p := *d.policy
	p.largeScale, d.policy = true, &p
}

func TestPlansOfAPortAreThoseThatWereReviewed(t *testing.T) {
	for _, s := range stories {
		var all strings.Builder
		fmt.Fprintf(&all, "%s\nfrom %s, says %s\n", s.about, s.from, s.says)
		for _, one := range s.told {
			label, community, _ := strings.Cut(one.label, " ")
			o := &pb.Outline{Tlp: oracleLabel[label], CommunityId: community, SecrecyRegime: noSecrecy, Lane: pb.Lane_LANE_LIVE, CreateTime: oracleStamp}
			for f := range strings.FieldsSeq(s.says) {
				o.Facts = append(o.Facts, pb.Fact(pb.Fact_value["FACT_"+strings.ToUpper(f)]))
				require.NotZero(t, o.Facts[len(o.Facts)-1], f)
			}
			for to := range strings.FieldsSeq(one.to) {
				member, person, _ := strings.Cut(to, "/")
				o.Recipients = append(o.Recipients, &pb.Recipient{Member: member, Person: person})
			}
			d := thePort()
			if one.change != nil {
				one.change(o, d)
			}
			at := one.at
			if at.IsZero() {
				at = oracleNow
			}
			p, bad := plan(o, s.from, nil, worldAt(d, at))
			fmt.Fprintf(&all, "\n%s to %s", one.label, cmp.Or(one.to, "whom it concerns"))
			for _, more := range []struct{ what, is string }{
				{"restrictions", strings.TrimPrefix(o.GetRestrictions().String(), "<nil>")}, {"secrecy", strings.TrimPrefix(o.GetSecrecyRegime().String(), "SECRECY_REGIME_")},
				{"onward", permissions(o)}, {"large scale", fmt.Sprint(d.policy.largeScale)}, {"at", at.Format(time.RFC3339)},
			} {
				if !slices.Contains([]string{"", "NONE", "false", oracleNow.Format(time.RFC3339)}, more.is) {
					fmt.Fprintf(&all, ", %s %s", more.what, strings.ReplaceAll(more.is, "  ", " "))
				}
			}
			if extra := o.GetFacts()[len(strings.Fields(s.says)):]; len(extra) > 0 {
				fmt.Fprintf(&all, ", also %s", strings.ToLower(strings.ReplaceAll(fmt.Sprint(extra), "FACT_", "")))
			}
			fmt.Fprintf(&all, "\n%s", readable(p, bad))
		}
		name := filepath.Join("testdata", "plan", s.file+".txt")
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
			require.NoError(t, os.WriteFile(name, []byte(all.String()), 0o644))
		}
		want, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, string(want), all.String(), "%s: look at the difference; if it is meant, run the test with -update", name)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "plan", "*.txt"))
	require.NoError(t, err)
	require.Len(t, files, len(stories), "a golden file that nothing writes")
}

func permissions(o *pb.Outline) string {
	var all []string
	for _, p := range o.GetOnwardPermissions() {
		all = append(all, p.GetBy()+"→"+p.GetTo())
	}
	return strings.Join(all, " ")
}

// readable writes a plan as a person reviews it.
func readable(p *pb.Plan, bad []rpc.Violation) string {
	var all strings.Builder
	for _, v := range bad {
		fmt.Fprintf(&all, "  refused   %s %s: %s\n", v.Field, v.Reason, v.English)
	}
	short := func(s fmt.Stringer) string {
		word := s.String()
		for _, prefix := range []string{"OBLIGATION_", "FLOW_", "ACT_"} {
			word = strings.TrimPrefix(word, prefix)
		}
		return strings.ToLower(word)
	}
	step := func(s *pb.Step) string {
		line := fmt.Sprintf("%s %s %s", s.GetGround().GetRule(), short(s.GetAct()), short(s.GetGround().GetObligation()))
		if s.GetRole() != "" {
			line += " to " + s.GetRole()
		}
		if len(s.GetMembers()) > 0 {
			line += " (" + strings.Join(s.GetMembers(), " ") + ")"
		}
		if s.GetFlow() != 0 {
			line += " as " + short(s.GetFlow())
		}
		if s.GetForm() != "" {
			line += " form " + s.GetForm()
		}
		for what, due := range map[string]*timestamppb.Timestamp{"preliminary": s.GetPreliminaryDueTime(), "detailed": s.GetDetailedDueTime()} {
			if due != nil {
				line += " " + what + " " + due.AsTime().Format(time.RFC3339)
			}
		}
		return line
	}
	for _, c := range p.GetCopies() {
		to := c.GetMember()
		if len(c.GetPersons()) > 0 {
			to += "/" + strings.Join(c.GetPersons(), "+")
		}
		var why []string
		for _, g := range c.GetGrounds() {
			why = append(why, g.GetRule()+" "+short(g.GetObligation()))
		}
		named := map[bool]string{true: "named", false: "nameless"}[c.GetNamed()]
		fmt.Fprintf(&all, "  copy      %-22s %-10s %-8s by %s\n", to, short(c.GetFlow()), named, strings.Join(why, ", "))
		for _, s := range c.GetTasks() {
			fmt.Fprintf(&all, "    task    %s\n", step(s))
		}
	}
	for _, s := range p.GetSteps() {
		fmt.Fprintf(&all, "  step      %s\n", step(s))
	}
	for _, o := range p.GetOmissions() {
		fmt.Fprintf(&all, "  left out  %s %s by %s\n", o.GetMember(), o.GetReason(), o.GetGround().GetRule())
	}
	return all.String()
}
