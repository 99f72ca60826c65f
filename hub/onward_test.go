package hub

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

// lateComer: what a member that joins later gets of what was decided before:
// CLEAR and GREEN within the window of the policy (30 days, 7 days), and only
// what was open to all; by its standing as in mayRead.
var lateComer = table(`
        days community child port
CLEAR   30   yes       yes   yes
GREEN   7    yes       yes   no
AMBER   0    no        no    no
STRICT  0    no        no    no
RED     0    no        no    no
`)

func TestALateComerGetsWhatTheTableSaysAndNothingElse(t *testing.T) {
	cases := 0
	for _, label := range oracleLabels {
		for _, standing := range []string{"community", "child", "port"} {
			for _, role := range oracleRoles {
				for _, restriction := range oracleRestrictions {
					for _, secrecy := range oracleSecrecy {
						for _, addressed := range []bool{false, true} {
							for _, own := range []bool{false, true} {
								for _, age := range []time.Duration{0, 7*24*time.Hour - time.Second, 7 * 24 * time.Hour, 7*24*time.Hour + time.Second,
									30 * 24 * time.Hour, 30*24*time.Hour + time.Second} {
									cases++
									c := oracleCase{label: label, standing: standing, role: role, restriction: restriction, secrecy: secrecy, source: "operator", duty: "none"}
									w, o := c.world(), c.outline()
									if addressed {
										o.Recipients = []*pb.Recipient{{Member: "other"}}
									}
									h := &pb.Handling{Tlp: o.GetTlp(), CommunityId: o.GetCommunityId(), Restrictions: o.GetRestrictions(), SecrecyRegime: o.GetSecrecyRegime()}
									source := "source"
									if own {
										source = "it"
									}
									p := backlog(o, h, source, w.dir.members["it"], oracleNow.Add(-age), w)
									days := map[string]int{"30": 30, "7": 7, "0": -1}[lateComer[label]["days"]]
									want := lateComer[label][standing] == "yes" && contents[role]["open"] == "yes" && !addressed && !own && secrecy != "unsworn" &&
										restriction != "no_distribution" && restriction != "expired" && age <= time.Duration(days)*24*time.Hour
									require.Equal(t, want, p != nil, "%+v addressed %v own %v age %v", c, addressed, own, age)
									if p != nil {
										require.Len(t, p.GetCopies(), 1)
										require.Equal(t, contents[role]["none"], heldBy(p, "it"), "%+v", c)
										require.Equal(t, "BACKLOG", p.GetCopies()[0].GetGrounds()[0].GetRule())
									}
								}
							}
						}
					}
				}
			}
		}
	}
	require.Equal(t, 5*3*10*6*3*2*2*6, cases)
}

func TestAPolicyWithoutAWindowGivesALateComerNothing(t *testing.T) {
	c := oracleCase{label: "CLEAR", standing: "port", role: "ministry", restriction: "none", secrecy: "none", source: "operator", duty: "none"}
	w, o := c.world(), c.outline()
	h := &pb.Handling{Tlp: o.GetTlp()}
	require.NotNil(t, backlog(o, h, "source", w.dir.members["it"], oracleNow, w))
	w.policy = noRoutes()
	require.Nil(t, backlog(o, h, "source", w.dir.members["it"], oracleNow, w))
}

// looser: what a report may be that derives from one under another label
// (格付けの継承): yes where it is as strict or stricter.
var looser = table(`
        CLEAR GREEN AMBER STRICT RED
CLEAR   yes   yes   yes   yes    yes
GREEN   no    yes   yes   yes    yes
AMBER   no    no    yes   yes    yes
STRICT  no    no    no    yes    yes
RED     no    no    no    no     yes
`)

// derive plans a report of source under a label from parents.
func derive(label, community string, s pb.SecrecyRegime, restrictions *pb.Restrictions, parents ...*pb.Handling) (*pb.Plan, []string) {
	c := oracleCase{label: label, standing: "addressed", role: "operator", restriction: "none", secrecy: "sworn", source: "operator", duty: "none", inside: true}
	if label == "RED" {
		c.standing = "person"
	}
	o := c.outline()
	o.SecrecyRegime, o.Restrictions = s, restrictions
	if label == "GREEN" {
		o.CommunityId = community
	}
	for range parents {
		o.DerivedFrom = append(o.DerivedFrom, newID())
	}
	w := c.world()
	for _, m := range w.active {
		m.Communities = []string{"port", "tos", "carriers"}
	}
	var own []parent
	for _, h := range parents {
		own = append(own, parent{Handling: h})
	}
	p, bad := plan(o, "source", own, w)
	return p, reasons(bad)
}

const noSecrecy, council, contract = pb.SecrecyRegime_SECRECY_REGIME_NONE, pb.SecrecyRegime_SECRECY_REGIME_COUNCIL_MEMBER, pb.SecrecyRegime_SECRECY_REGIME_CONTRACT

func TestWhatDerivesFromAReportIsAtLeastAsStrict(t *testing.T) {
	parent := func(label string) *pb.Handling {
		h := &pb.Handling{Tlp: oracleLabel[label], SecrecyRegime: noSecrecy}
		if label == "GREEN" {
			h.CommunityId = "terminals"
		}
		return h
	}
	for _, was := range oracleLabels {
		for _, is := range oracleLabels {
			for _, other := range oracleLabels {
				_, bad := derive(is, "terminals", noSecrecy, nil, parent(was), parent(other))
				var want []string
				for _, p := range []string{was, other} {
					if looser[p][is] == "no" {
						want = append(want, "tlp LABEL_LOOSER_THAN_SOURCE")
					}
				}
				require.Equal(t, want, bad, "%s from %s and %s", is, was, other)
			}
		}
	}
	for community, want := range map[string][]string{
		"terminals": nil, "tos": nil, "port": {"community_id COMMUNITY_WIDER_THAN_SOURCE"}, "carriers": {"community_id COMMUNITY_WIDER_THAN_SOURCE"},
	} {
		_, bad := derive("GREEN", community, noSecrecy, nil, parent("GREEN"))
		require.Equal(t, want, bad, "the community %s inside of terminals", community)
	}
	whole := parent("GREEN")
	whole.CommunityId = "port"
	_, bad := derive("GREEN", "carriers", noSecrecy, nil, whole)
	require.Empty(t, bad, "everything lies inside of the port")
}

func TestADutyOfSecrecyIsInherited(t *testing.T) {
	for _, c := range []struct {
		was, is pb.SecrecyRegime
		lost    bool
	}{
		{noSecrecy, noSecrecy, false}, {noSecrecy, contract, false}, {contract, contract, false},
		{contract, noSecrecy, true}, {council, noSecrecy, true}, {council, contract, true},
	} {
		_, bad := derive("AMBER", "", c.is, nil, &pb.Handling{Tlp: oracleLabel["AMBER"], SecrecyRegime: c.was})
		if c.lost {
			require.Equal(t, []string{"secrecy_regime SECRECY_LOST"}, bad, "%v from %v", c.is, c.was)
		} else {
			require.Empty(t, bad, "%v from %v", c.is, c.was)
		}
	}
}

func TestRestrictionsOfAllSourcesHoldTogether(t *testing.T) {
	early, late := timestamppb.New(oracleNow.Add(time.Hour)), timestamppb.New(oracleNow.Add(2*time.Hour))
	all := []func(*pb.Restrictions){
		func(r *pb.Restrictions) { r.NoCopy = true }, func(r *pb.Restrictions) { r.NoExport = true },
		func(r *pb.Restrictions) { r.NoDistribution = true }, func(r *pb.Restrictions) { r.ChathamHouse = true },
	}
	// Every way to spread four prohibitions over two parents and the report.
	for spread := range 4 * 4 * 4 * 4 {
		var own, one, two, want pb.Restrictions
		n := spread
		for _, set := range all {
			if where := n % 4; where > 0 {
				set([]*pb.Restrictions{&own, &one, &two}[where-1])
				set(&want)
			}
			n /= 4
		}
		own.ExpireTime, one.ExpireTime, two.ExpireTime = late, early, nil
		own.Text, one.Text, two.Text = "自", "甲", "自"
		want.ExpireTime, want.Text = early, "自\n甲"
		p, bad := derive("AMBER", "", noSecrecy, &own,
			&pb.Handling{Tlp: oracleLabel["CLEAR"], Restrictions: &one}, &pb.Handling{Tlp: oracleLabel["CLEAR"], Restrictions: &two})
		require.Empty(t, bad)
		got := p.GetHandling().GetRestrictions()
		require.Equal(t, want.String(), got.String())
	}
	p, bad := derive("AMBER", "", noSecrecy, nil, &pb.Handling{Tlp: oracleLabel["CLEAR"], Restrictions: &pb.Restrictions{NoCopy: true}})
	require.Empty(t, bad)
	require.True(t, p.GetHandling().GetRestrictions().GetNoCopy(), "a report without any inherits them")
	_, bad = derive("AMBER", "", noSecrecy, nil, &pb.Handling{Tlp: oracleLabel["CLEAR"], Restrictions: &pb.Restrictions{ExpireTime: timestamppb.New(oracleNow)}})
	require.Equal(t, []string{"restrictions.expire_time EXPIRED"}, bad)
}

// whyNot: what explain says to a source about somebody without a copy.
func TestExplainSaysWhatKeptAMemberOut(t *testing.T) {
	for _, c := range []struct {
		name string
		oracleCase
		want string
	}{
		{"in the port, not addressed", oracleCase{label: "AMBER", standing: "unaddressed"}, "NOT_ADDRESSED"},
		{"outside of the community", oracleCase{label: "GREEN", standing: "port"}, "OUTSIDE_LABEL"},
		{"not under the duty of secrecy", oracleCase{label: "GREEN", standing: "community", secrecy: "unsworn"}, "OUTSIDE_SECRECY"},
		{"the source itself", oracleCase{label: "AMBER", standing: "self"}, "IS_SOURCE"},
		{"revoked", oracleCase{label: "AMBER", standing: "former"}, "REVOKED_THEN"},
		{"invited", oracleCase{label: "AMBER", standing: "invited"}, "NOT_A_MEMBER_THEN"},
		{"a rule names it, the label does not", oracleCase{label: "GREEN", standing: "port", role: "ministry", duty: "voluntary"}, "OUTSIDE_LABEL"},
		{"a rule names it, 配布禁止", oracleCase{label: "AMBER", standing: "unaddressed", role: "ministry", duty: "voluntary", restriction: "no_distribution"}, "NO_DISTRIBUTION"},
		{"a rule names it, not under the duty of secrecy", oracleCase{label: "AMBER", standing: "unaddressed", role: "ministry", duty: "voluntary", secrecy: "unsworn"}, "OUTSIDE_SECRECY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.source, c.role = "operator", strings.TrimSpace(c.role)
			if c.role == "" {
				c.role = "operator"
			}
			if c.secrecy == "" {
				c.secrecy = "none"
			}
			it := "it"
			if c.standing == "self" {
				it = "source"
			}
			o := c.outline()
			if slices.Contains([]string{"self", "former", "invited"}, c.standing) {
				o.Recipients = []*pb.Recipient{{Member: "other"}}
			}
			all := leftOut(o, "source", nil, it, c.world())
			require.Len(t, all, 1)
			require.Equal(t, c.want, all[0].GetReason())
			require.NotEmpty(t, all[0].GetJapanese())
			require.NotEmpty(t, all[0].GetEnglish())
			require.Equal(t, it, all[0].GetMember())
		})
	}
}

func TestAPermissionThatNobodyMayUseIsNone(t *testing.T) {
	// An office that must be told is outside of the community, and somebody who
	// gets a copy may pass it on to it.
	ask := func(change func(*pb.Outline)) []string {
		c := oracleCase{label: "GREEN", standing: "community", role: "isac", restriction: "none", secrecy: "none", source: "operator", duty: "impact"}
		d, o := c.world().dir.copy(), c.outline()
		d.members["office"] = oracleMember("office", "port-authority")
		o.OnwardPermissions = []*pb.OnwardPermission{{By: "isac", To: "port_authority"}}
		change(o)
		_, bad := plan(o, "source", nil, worldAt(d, oracleNow))
		return reasons(bad)
	}
	require.Empty(t, ask(func(*pb.Outline) {}))
	for i, change := range []func(*pb.Outline){
		func(o *pb.Outline) { o.OnwardPermissions = nil },
		func(o *pb.Outline) { o.OnwardPermissions[0].By = "police" },
		func(o *pb.Outline) { o.OnwardPermissions[0].To = "police" },
		func(o *pb.Outline) { o.OnwardPermissions[0].By = "port_authority" },
		func(o *pb.Outline) { o.Restrictions = &pb.Restrictions{NoCopy: true} },
		func(o *pb.Outline) { o.Restrictions = &pb.Restrictions{NoExport: true} },
		func(o *pb.Outline) {
			o.Tlp, o.CommunityId, o.Recipients = oracleLabel["RED"], "", []*pb.Recipient{{Member: "it", Person: "ciso"}}
		},
	} {
		require.Equal(t, []string{"recipients MANDATORY_OUTSIDE_LABEL"}, ask(change), "%d", i)
	}
}

func TestATaskReachesWhomItMeansAndNobodyElse(t *testing.T) {
	d := thePort()
	w := worldAt(d, oracleNow)
	o := &pb.Outline{Tlp: oracleLabel["AMBER"], Facts: []pb.Fact{pb.Fact_FACT_INCIDENT, pb.Fact_FACT_BUSINESS_IMPACT}, SecrecyRegime: noSecrecy, CreateTime: oracleStamp}
	p, bad := plan(o, "terminal-a", nil, w)
	require.Empty(t, bad)
	held := copyFor(p, "port-authority")
	require.Len(t, held.GetTasks(), 1)
	give := func(to string, w world) []string {
		_, bad := onward(o, p.GetHandling(), d.members["terminal-a"], d.members["port-authority"], held,
			[]*pb.Recipient{{Member: to}}, func(r *pb.Recipient) bool { return copyFor(p, r.GetMember()) != nil }, w)
		return reasons(bad)
	}
	none := []string{"recipients[0] NOT_YOURS_TO_GIVE"}
	require.Empty(t, give("development", w))
	for _, other := range []string{"development-nth", "terminal-b", "ministry", "police", "cabinet-cyber"} {
		require.Equal(t, none, give(other, w), other)
	}
	// Who takes over the office later is meant as well, one of another port is not.
	d = d.copy()
	d.members["development-2"], d.members["development-3"] = oracleMember("development-2", "operator"), oracleMember("development-3", "operator")
	for id, port := range map[string]string{"development-2": "aport", "development-3": "elsewhere"} {
		d.members[id].Role, d.members[id].Jurisdictions = pb.Role_ROLE_REGIONAL_DEVELOPMENT, []string{port}
	}
	later := worldAt(d, oracleNow)
	require.Empty(t, give("development-2", later))
	require.Equal(t, none, give("development-3", later))
}
