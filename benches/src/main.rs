//! `masktile-bench`: what each instruction set of this machine gives; see `--help`.

fn main() -> std::process::ExitCode {
    masktile_bench::cli::main()
}
