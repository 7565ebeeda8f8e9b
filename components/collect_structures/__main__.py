from components.collect_structures.stage import STAGE

if __name__ == "__main__":
    STAGE.main()
