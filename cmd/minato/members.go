package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

func (a *app) membersCommand() *cobra.Command {
	var keys bool
	var confirm string
	c := a.command("members [--keys] [--confirm-key MEMBER[/PERSON]]", about{
		short: Text{"港の会員と、名指しできる人を表示します", "List the members of the port and the persons who can be named"},
		long: Text{"--keys は封をする鍵の指紋を表示します。相手と電話で読み合わせれば、ハブが偽の鍵を渡していないと分かります。",
			"--keys shows the fingerprints of the keys that reports are sealed to. Compared by telephone,\nthey show that the hub has not handed out false keys."},
		example: "minato members --keys",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			if confirm != "" {
				return a.confirmKey(ctx, n, confirm)
			}
			members, err := peers(ctx, n)
			if err != nil {
				return err
			}
			if keys {
				return a.printKeys(members)
			}
			list := a.list("ID", a.t("役割", "role"), a.t("状態", "state"), a.t("人", "persons"), a.t("コミュニティ", "communities"), a.t("名称", "name"))
			for _, m := range members {
				if a.json {
					if err := a.emitFull(m); err != nil {
						return err
					}
					continue
				}
				var persons []string
				for _, p := range m.GetProfile().GetPersons() {
					persons = append(persons, plain(p.GetId()))
				}
				if err := list.add(plain(m.GetId()), a.roleOf(m), word(m.GetState()).in(a.lang),
					strings.Join(persons, ","), plain(strings.Join(m.GetCommunities(), ",")), plain(m.GetName())); err != nil {
					return err
				}
			}
			if len(members) == 0 {
				a.talk(Text{"会員一覧はまだ届いていません。ハブにつながると届きます。", "the directory has not arrived yet; it comes with the first contact with the hub"})
			}
			return list.end()
		})
	})
	c.Flags().BoolVar(&keys, "keys", false, a.t("鍵の指紋を表示", "show the fingerprints of the keys"))
	c.Flags().StringVar(&confirm, "confirm-key", "", a.t("電話で指紋を確かめた`会員`、または 会員/人 の鍵を使う", "use the key of `MEMBER` or MEMBER/PERSON, compared by telephone"))
	return c
}

// confirmKey records that somebody has compared the fingerprint of a key.
func (a *app) confirmKey(ctx context.Context, n pb.NodeServiceClient, owner string) error {
	who, err := parseRecipients("confirm-key", []string{owner})
	if err != nil {
		return err
	}
	answer, err := n.ConfirmKey(ctx, &pb.ConfirmKeyRequest{Member: who[0].GetMember(), Person: who[0].GetPerson()})
	if err != nil {
		return err
	}
	if a.json {
		return a.emitFull(answer)
	}
	for _, fingerprint := range answer.GetFingerprints() {
		if err := a.sayText(textf("確認済みにしました: %s  指紋 %s", "confirmed: %s  fingerprint %s", plain(owner), plain(fingerprint))); err != nil {
			return err
		}
	}
	a.talk(Text{"電話で聞いた指紋と違う時は、送らずに、ハブの管理者に尋ねてください。", "If it is not what was read over the telephone, send nothing and ask the hub's administrator."})
	return nil
}

// printKeys lists the keys of members and persons to be compared by telephone.
func (a *app) printKeys(members []*pb.Member) error {
	list := a.list(a.t("持ち主", "owner"), a.t("方式", "suite"), a.t("期限", "until"), a.t("指紋", "fingerprint"))
	shown := 0
	for _, m := range members {
		for _, k := range m.GetKeys() {
			e := k.GetEntry()
			fingerprint := seal.Fingerprint(e.GetPublicKey())
			shown++
			if a.json {
				if err := a.emitValue(struct {
					Member      string `json:"member"`
					Person      string `json:"person"`
					Node        uint32 `json:"node"`
					Suite       string `json:"suite"`
					Fingerprint string `json:"fingerprint"`
				}{m.GetId(), e.GetPerson(), e.GetNode(), e.GetSuite(), fingerprint}); err != nil {
					return err
				}
				continue
			}
			owner := plain(m.GetId()) + "/" + plain(e.GetPerson())
			if e.GetPerson() == "" {
				owner = fmt.Sprintf(a.t("%s(ノード%d)", "%s(node-%d)"), plain(m.GetId()), e.GetNode())
			}
			if err := list.add(owner, plain(e.GetSuite()), a.moment(e.GetExpireTime()), fingerprint); err != nil {
				return err
			}
		}
	}
	if shown == 0 {
		a.talk(Text{"鍵はまだ届いていません。ハブにつながると届きます。", "no keys have arrived yet; they come with the first contact with the hub"})
	}
	return list.end()
}

// roleOf is the role of a member with what it holds for: the ports of an office,
// the agreement of an expert body.
func (a *app) roleOf(m *pb.Member) string {
	role := word(m.GetRole()).in(a.lang)
	var more []string
	for _, port := range m.GetJurisdictions() {
		more = append(more, plain(port))
	}
	if m.GetNda() {
		more = append(more, a.t("秘密保持契約", "non-disclosure-agreement"))
	}
	if len(more) > 0 {
		role += "(" + strings.Join(more, ",") + ")"
	}
	return role
}

// peers is the whole directory as the node last saw it.
func peers(ctx context.Context, n pb.NodeServiceClient) ([]*pb.Member, error) {
	var members []*pb.Member
	for req := (&pb.ListPeersRequest{}); ; {
		page, err := n.ListPeers(ctx, req)
		if err != nil {
			return nil, err
		}
		members = append(members, page.GetMembers()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return members, nil
		}
	}
}
