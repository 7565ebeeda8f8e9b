from imitation_refinement.running.interrupts import run_stage

if __name__ == "__main__":
    run_stage(__package__)
