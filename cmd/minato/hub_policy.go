package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"minato.example/hub"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

func (a *app) hubPolicyCommand() *cobra.Command {
	c := a.group("policy", about{
		short:   Text{"誰に何を伝えるかの方針を表示、検査、適用します", "Show, check and apply the policy: who is told of what"},
		example: "minato hub policy show --dir /var/lib/minato-hub",
	})
	c.AddCommand(a.hubPolicyShowCommand(), a.hubPolicyCheckCommand(), a.hubPolicyApplyCommand())
	return c
}

func (a *app) hubPolicyShowCommand() *cobra.Command {
	var dir string
	c := a.command("show [--dir D]", about{
		short: Text{"有効な方針を表示します", "Print the policy in force"},
		long: Text{"ファイルに書き出して直せます。--dir がなければ、組み込みの方針を表示します。",
			"Write it to a file and edit that. Without --dir it is the policy that is built in."},
		example: "minato hub policy show --dir /var/lib/minato-hub",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		if dir == "" {
			text := hub.BuiltInPolicy()
			version, err := hub.CheckPolicy("policy.toml", text)
			if err != nil {
				return err
			}
			return a.showPolicy(&pb.GetPolicyResponse{Version: version, Policy: text})
		}
		return a.withHub(c.Context(), dir, func(ctx context.Context, admin pb.AdminServiceClient) error {
			p, err := admin.GetPolicy(ctx, &pb.GetPolicyRequest{}, patient)
			if err != nil {
				return err
			}
			return a.showPolicy(p)
		})
	})
	a.hubDirFlag(c, &dir)
	c.Flags().Lookup("dir").Usage = a.t("ハブの`フォルダー`", "`folder` of the hub")
	return c
}

func (a *app) showPolicy(p *pb.GetPolicyResponse) error {
	if a.json {
		return a.emitValue(map[string]string{"version": p.GetVersion(), "keyId": p.GetKeyId(), "policy": string(p.GetPolicy())})
	}
	by := Text{"組み込みの方針", "built in"}
	if p.GetKeyId() != "" {
		by = textf("署名の鍵 %s", "signed with key %s", p.GetKeyId())
	}
	a.talk(textf("版 %s (%s)", "version %s (%s)", plain(p.GetVersion()), by))
	if a.outTTY {
		return a.say(plainText(string(p.GetPolicy()), ""))
	}
	_, err := a.out.Write(p.GetPolicy()) // byte for byte: it may be signed again
	return err
}

func (a *app) hubPolicyCheckCommand() *cobra.Command {
	var dir string
	c := a.command("check FILE [--dir D]", about{
		short: Text{"方針ファイルを検査します。何も変えません", "Check a policy file; nothing is changed"},
		long: Text{"--dir を付けると、宛先の役割を持つ会員がいるかも確かめます。誤りがあれば終了コード 6 です。",
			"With --dir it also makes sure that somebody holds the roles. Exit code 6 when something is wrong."},
		example: "minato hub policy check policy.toml --dir /var/lib/minato-hub",
	}, a.exactly("FILE"), func(c *cobra.Command, args []string) error {
		text, err := readPolicy(args[0])
		if err != nil {
			return err
		}
		version, err := hub.CheckPolicy(args[0], text)
		if err == nil && dir != "" {
			err = a.withHub(c.Context(), dir, func(ctx context.Context, admin pb.AdminServiceClient) error {
				_, err := admin.SetPolicy(ctx, &pb.SetPolicyRequest{Check: true, Policy: &pb.Envelope{PayloadType: seal.PolicyType, Payload: text}}, patient)
				return err
			})
			if code := exitCode(err); err != nil && code != exitUsage && code != exitRefused {
				return err // the hub could not be asked
			}
			if f, ok := errors.AsType[*failure](err); ok {
				return f
			}
		}
		if a.json {
			finding := map[string]any{"file": args[0], "valid": err == nil, "version": version}
			if err != nil {
				finding["english"], finding["japanese"] = textOf(err).EN, textOf(err).JA
			}
			if err := a.emitValue(finding); err != nil {
				return err
			}
		}
		if err != nil {
			return &failure{code: exitCheck, what: textOf(err), err: err}
		}
		if a.json {
			return nil
		}
		return a.sayText(textf("%s は使えます (版 %s)", "%s can be used (version %s)", plain(args[0]), plain(version)))
	})
	a.hubDirFlag(c, &dir)
	c.Flags().Lookup("dir").Usage = a.t("会員も照らし合わせるハブの`フォルダー`", "`folder` of the hub whose members to hold it against")
	return c
}

func (a *app) hubPolicyApplyCommand() *cobra.Command {
	var dir, key string
	c := a.command("apply FILE --dir D [--key FILE]", about{
		short: Text{"方針ファイルに署名し、有効にします", "Sign a policy file and put it in force"},
		long: Text{"次の報告から新しい方針で決まります。既に決まったことは変わりません。\n誤りがあれば拒み、それまでの方針が残ります。",
			"The next report is decided by it; what has been decided stays.\nOne with a mistake is refused and the former policy stays."},
		example: "minato hub policy apply policy.toml --dir /var/lib/minato-hub --key /media/usb/policy.key",
	}, a.exactly("FILE"), func(c *cobra.Command, args []string) error {
		if err := a.need(required{"dir", dir != ""}); err != nil {
			return err
		}
		text, err := readPolicy(args[0])
		if err != nil {
			return err
		}
		if _, err := hub.CheckPolicy(args[0], text); err != nil {
			return badInput(err)
		}
		return a.withHub(c.Context(), dir, func(ctx context.Context, admin pb.AdminServiceClient) error {
			if key == "" {
				key = hub.PolicyKey(dir)
			}
			signing, err := hub.ReadPolicyKey(key)
			if errors.Is(err, fs.ErrNotExist) {
				return &failure{code: exitUsage, err: err,
					what: textf("方針に署名する鍵 %s がありません", "there is no policy key %s", plain(key)),
					next: Text{"鍵を別の所に置いているなら: --key FILE", "if it is kept elsewhere: --key FILE"}}
			}
			if err != nil {
				return err
			}
			answer, err := admin.SetPolicy(ctx, &pb.SetPolicyRequest{Policy: hub.SignPolicy(signing, text)}, patient)
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(answer)
			}
			return a.sayText(textf("方針 %s を有効にしました", "policy %s is in force", plain(answer.GetVersion())))
		})
	})
	a.hubDirFlag(c, &dir)
	c.Flags().StringVar(&key, "key", "", a.t("署名する鍵の`ファイル` (既定: D/keys/policy.key)", "`file` of the signing key (default: D/keys/policy.key)"))
	return c
}

// policyLimit is more than the hub takes, so that the hub's own words tell.
const policyLimit = 1 << 20

// readPolicy reads a policy file byte for byte: that is what is signed.
func readPolicy(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(f, policyLimit)); err == nil {
			return text, nil
		}
	}
	return nil, &failure{code: exitUsage, err: fmt.Errorf("read %s: %w", path, err),
		what: textf("方針ファイル %s を読めません", "cannot read the policy %s", plain(path)),
		next: Text{"ファイル名と権限を確かめてください。今の方針は minato hub policy show で書き出せます", "check its name and mode; minato hub policy show prints the one in force"}}
}
