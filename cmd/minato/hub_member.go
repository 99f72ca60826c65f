package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

func (a *app) hubMemberCommand() *cobra.Command {
	c := a.group("member", about{
		short:   Text{"会員について港が知っていることを改めます", "Change what the port knows of a member"},
		example: "minato hub member set tcb --role operator --dir /var/lib/minato-hub",
	})
	c.AddCommand(a.hubMemberSetCommand())
	return c
}

// secrecyRegimes are the duties of secrecy as they are typed.
var secrecyRegimes = []struct {
	typed  string
	regime pb.SecrecyRegime
}{
	{"council", pb.SecrecyRegime_SECRECY_REGIME_COUNCIL_MEMBER},
	{"contract", pb.SecrecyRegime_SECRECY_REGIME_CONTRACT},
}

func (a *app) hubMemberSetCommand() *cobra.Command {
	var (
		dir, role, effective string
		secrecy              []string
		set                  pb.MemberSet
	)
	c := a.command("set ID --dir D [--name NAME] [--role ROLE] ...", about{
		short: Text{"会員の名称、役割、管轄、指定、顧客などを改めます", "Change name, role, jurisdiction, designations or clients of a member"},
		long: Text{"付けたものだけが変わります。繰り返せるものは全体を置き換え、\"\" 一つで空になります。",
			"Only what is given changes. A repeatable flag replaces the whole list; a single \"\" empties it."},
		example: "minato hub member set tcb --dir /var/lib/minato-hub --designation special-infrastructure-operator --effective 2027-04-01",
	}, a.exactly("ID"), func(c *cobra.Command, args []string) error {
		given := c.Flags().Changed
		if err := a.need(required{"dir", dir != ""}); err != nil {
			return err
		}
		facts := []string{"name", "role", "community", "jurisdiction", "nda", "designation", "secrecy", "client"}
		if !slices.ContainsFunc(facts, given) {
			return usage(Text{"何を変えるかの指定がありません", "nothing to change was given"},
				textf("次のどれかを付けてください: --%s", "give one of: --%s", strings.Join(facts, ", --")))
		}
		var err error
		if given("role") {
			if set.Role, err = parseChoice[pb.Role]("role", role); err != nil {
				return err
			}
		}
		if set.SecrecyRegimes, err = parseSecrecy(listed(secrecy)); err != nil {
			return err
		}
		from, err := parseDay("effective", effective)
		if err != nil {
			return err
		}
		return a.withHub(c.Context(), dir, func(ctx context.Context, admin pb.AdminServiceClient) error {
			m, err := memberNow(ctx, admin, args[0])
			if err != nil {
				return err
			}
			keep(given("name"), &set.Name, m.GetName())
			keep(given("role"), &set.Role, m.GetRole())
			keep(given("nda"), &set.Nda, m.GetNda())
			keepList(given("community"), &set.Communities, m.GetCommunities())
			keepList(given("jurisdiction"), &set.Jurisdictions, m.GetJurisdictions())
			keepList(given("designation"), &set.Designations, m.GetDesignations())
			keepList(given("client"), &set.Clients, m.GetClients())
			if !given("secrecy") {
				set.SecrecyRegimes = m.GetSecrecyRegimes()
			}
			set.Member = args[0]
			if _, err := admin.SetMember(ctx, &pb.SetMemberRequest{Member: &set, EffectiveTime: from}, patient); err != nil {
				return err
			}
			if a.json {
				return a.emitFull(&pb.SetMemberRequest{Member: &set, EffectiveTime: from})
			}
			if from != nil && from.AsTime().After(time.Now()) {
				return a.sayText(textf("会員 %s を %s から改めます", "member %s changes on %s", plain(args[0]), effective))
			}
			return a.sayText(textf("会員 %s を改めました", "member %s is changed", plain(args[0])))
		})
	})
	f := c.Flags()
	a.hubDirFlag(c, &dir)
	f.StringVar(&set.Name, "name", "", a.t("会員の`名称`", "`name` of the member"))
	f.StringVar(&role, "role", "", a.t("`役割` operator, port_authority, ministry, isac など", "`role`: operator, port_authority, ministry, isac, ..."))
	f.StringArrayVar(&set.Communities, "community", nil, a.t("港のほかに属するコミュニティの`ID` (繰り返し可)", "`ID` of a community beside the port's (repeatable)"))
	f.StringArrayVar(&set.Jurisdictions, "jurisdiction", nil, a.t("管轄する`港` (なければ全て; 繰り返し可)", "`PORT` it is competent for (none: all; repeatable)"))
	f.BoolVar(&set.Nda, "nda", false, a.t("秘密保持契約がある (やめるなら --nda=false)", "bound by a non-disclosure agreement (to end it: --nda=false)"))
	f.StringArrayVar(&set.Designations, "designation", nil, a.t("法令の`指定` (方針の duty と同じ語; 繰り返し可)", "`designation` by law, as a duty of the policy has it (repeatable)"))
	f.StringArrayVar(&secrecy, "secrecy", nil, a.t("守秘の`定め` council, contract (繰り返し可)", "`duty` of secrecy: council, contract (repeatable)"))
	f.StringArrayVar(&set.Clients, "client", nil, a.t("TLP:AMBER を渡してよい顧客の会員`ID` (繰り返し可)", "`ID` of a client that TLP:AMBER may be passed on to (repeatable)"))
	f.StringVar(&effective, "effective", "", a.t("この`日`から (例 2027-04-01; なければ直ちに)", "from this `day` on, such as 2027-04-01 (default: at once)"))
	return c
}

func keep[T any](given bool, to *T, now T) {
	if !given {
		*to = now
	}
}

func keepList(given bool, to *[]string, now []string) {
	if *to = listed(*to); !given {
		*to = now
	}
}

// listed is a repeatable flag's list; a single "" stands for none.
func listed(all []string) []string {
	if len(all) == 1 && all[0] == "" {
		return nil
	}
	return all
}

func parseSecrecy(all []string) (regimes []pb.SecrecyRegime, err error) {
	for _, s := range all {
		i := slices.Index([]string{secrecyRegimes[0].typed, secrecyRegimes[1].typed}, s)
		if i < 0 {
			return nil, usage(
				textf("--secrecy の値 %q は使えません", "--secrecy cannot be %q", cut(plain(s), 60)),
				Text{"使える値: council, contract", "use one of: council, contract"})
		}
		regimes = append(regimes, secrecyRegimes[i].regime)
	}
	return regimes, nil
}

// japan is the zone of the days that officials write.
var japan = time.FixedZone("JST", 9*60*60)

// parseDay reads the midnight at which a day begins in Japan, or an instant.
func parseDay(flag, s string) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, s, japan); err == nil {
		return timestamppb.New(day), nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return timestamppb.New(at), nil
	}
	return nil, usage(
		textf("--%s の値 %q は日付ではありません", "--%s cannot be %q: it is not a day", flag, cut(plain(s), 60)),
		Text{"例: 2027-04-01 (日本時間のその日の始め)", "for example 2027-04-01 (the beginning of that day in Japan)"})
}

// memberNow is a member as the hub has it now.
func memberNow(ctx context.Context, admin pb.AdminServiceClient, id string) (*pb.Member, error) {
	for req := (&pb.ListMemberStatesRequest{}); ; {
		page, err := admin.ListMemberStates(ctx, req, patient)
		if err != nil {
			return nil, err
		}
		for _, s := range page.GetMembers() {
			if s.GetMember().GetId() == id {
				return s.GetMember(), nil
			}
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return nil, usage(
				textf("会員 %q はいません", "there is no member %q", cut(plain(id), 60)),
				Text{"一覧: minato hub members", "see: minato hub members"})
		}
	}
}

// standing is what the port knows of a member beside its role and communities.
func (a *app) standing(m *pb.Member) string {
	var all []string
	add := func(name Text, values ...string) {
		if len(values) > 0 {
			all = append(all, name.in(a.lang)+":"+plain(strings.Join(values, ",")))
		}
	}
	add(Text{"管轄", "for"}, m.GetJurisdictions()...)
	add(Text{"指定", "designated"}, m.GetDesignations()...)
	if m.GetNda() {
		all = append(all, "NDA")
	}
	for _, s := range secrecyRegimes {
		if slices.Contains(m.GetSecrecyRegimes(), s.regime) {
			add(Text{"守秘", "secrecy"}, s.typed)
		}
	}
	add(Text{"顧客", "clients"}, m.GetClients()...)
	return strings.Join(all, " ")
}
