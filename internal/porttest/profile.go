package porttest

import pb "minato.example/proto/minato/v1"

// Profile is a profile with everything that a report needs. Numbers and
// addresses are of the ranges kept for examples.
func Profile(organisation string) *pb.Profile {
	return &pb.Profile{
		Organisation: organisation,
		Place:        &pb.Place{Port: "みなと港", Terminal: organisation},
		Desks: []*pb.Desk{{Name: "情報セキュリティ担当", Contacts: []*pb.Contact{
			{Name: "港 一郎", Phone: "03-0000-0001", Mail: "ichiro@port.example", AroundTheClock: true},
			{Name: "波止 花子", Phone: "03-0000-0002", Mail: "hanako@port.example"},
		}}},
		Persons: []*pb.Person{{Id: "ciso", Name: "港 一郎", Title: "CISO"}, {Id: "desk", Name: "波止 花子", Title: "担当"}},
	}
}
