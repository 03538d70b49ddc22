// Runs firmware/examples/wasm.rs in Node: `node ci/wasm.mjs MODULE NAME`.
// One line: bits of the steps and of products against scalar code, and the time of both.
import { readFileSync } from "node:fs";

const [path, name] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(path), {});
const wasm = instance.exports;

const seconds = () => {
    const start = process.hrtime.bigint();
    for (let i = 0; i < 20; i++) wasm.largest_product();
    return Number(process.hrtime.bigint() - start) / 20e9;
};
const measure = (vectors) => {
    if (!wasm.use_vectors(vectors)) throw new Error(`no ${vectors ? "vectors" : "scalar code"}`);
    const result = { steps: wasm.steps(), products: wasm.products(96) >>> 0 };
    seconds();
    return { ...result, gflops: (2 * 96 ** 3) / seconds() / 1e9 };
};
const [scalar, vectors] = [measure(false), measure(true)];
const all = (1 << wasm.step_count()) - 1;
const equal =
    scalar.steps === all && vectors.steps === all && scalar.products === vectors.products;
const rate = (x) => x.gflops.toFixed(2);
console.log(
    `wasm32 ${name}: bits ${equal ? "equal" : "differ"}, ` +
        `${rate(vectors)} GFLOP/s (scalar ${rate(scalar)})`,
);
process.exit(equal ? 0 : 1);
