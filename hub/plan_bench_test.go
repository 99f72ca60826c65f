package hub

import (
	"fmt"
	"testing"
	"time"

	pb "minato.example/proto/minato/v1"
)

// BenchmarkPlan decides about a report for a whole community and for two
// addressed members, in ports of two sizes, by the built-in policy.
func BenchmarkPlan(b *testing.B) {
	for _, size := range []int{100, 1000} {
		d := newDirectory()
		d.port = "testport"
		for i := range size {
			m := testMemberOf(fmt.Sprintf("m%04d", i), pb.MemberState_MEMBER_STATE_ACTIVE, "ops")
			if i < 5 {
				m.Role = []pb.Role{pb.Role_ROLE_PORT_AUTHORITY, pb.Role_ROLE_MINISTRY, pb.Role_ROLE_REGIONAL_TRANSPORT, pb.Role_ROLE_POLICE, pb.Role_ROLE_EXPERT}[i]
			}
			d.members[m.GetId()] = m
		}
		facts := []pb.Fact{pb.Fact_FACT_BUSINESS_IMPACT, pb.Fact_FACT_ATTACK, pb.Fact_FACT_TECHNIQUE, pb.Fact_FACT_INCIDENT, pb.Fact_FACT_DIRECT}
		for name, o := range map[string]*pb.Outline{
			"community": {Tlp: pb.TlpLabel_TLP_LABEL_GREEN, CommunityId: "ops", SecrecyRegime: pb.SecrecyRegime_SECRECY_REGIME_NONE, Facts: facts},
			"addressed": {Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Recipients: []*pb.Recipient{{Member: "m0000"}, {Member: "m0009"}},
				SecrecyRegime: pb.SecrecyRegime_SECRECY_REGIME_NONE, Facts: facts},
		} {
			b.Run(fmt.Sprintf("%s/members=%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, bad := plan(o, "m0050", nil, worldAt(d, time.Unix(1_800_000_000, 0))); len(bad) > 0 {
						b.Fatal(bad)
					}
				}
			})
		}
	}
}
